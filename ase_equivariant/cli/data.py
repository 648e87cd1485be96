"""``ase-equivariant data``: what is wrong with a data set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ase_equivariant.cli.common import OverwriteOption, console, refuse_to_lose
from ase_equivariant.cli.label_options import label_config, reads_labels
from ase_equivariant.config import ConfigError
from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.training.database import write_database
from ase_equivariant.training.doctor.examine import Report, examine_files
from ase_equivariant.training.doctor.finding import Finding, numbers
from ase_equivariant.training.readers import DataError, iterate_frames

data = typer.Typer(
    name="data", help="Look at data sets before training on them; write them as databases.", no_args_is_help=True
)

FOUND_ERRORS, BAD_INPUT = 1, 2
_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


FilesArgument = Annotated[list[Path], typer.Argument(help="Labelled structures: any file ASE reads, or an MD17 npz.")]


@data.command()
@reads_labels
def check(
    files: FilesArgument,
    label_options: dict[str, Any],
    test: Annotated[list[Path] | None, typer.Option(help="Structures to test on; as often as needed.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file.")] = None,
) -> None:
    """Look for what would spoil training: units, signs, copies, outliers, missing labels, overlap with the test part.

    Files are read as training reads them. Frames are counted from 0, through all files of a part. The exit status is
    0 if there are no errors (warnings are none), 1 if there are, and 2 if the files or options cannot be used.
    """
    refuse_to_lose([json_file], [*files, *(test or [])], overwrite=True)
    try:
        report = examine_files(files, test or [], label_config(label_options))
    except (DataError, ConfigError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
        raise typer.Exit(BAD_INPUT) from None
    _show(report)
    if json_file is not None:
        content = {
            "files": {"train": list(map(str, files)), "test": list(map(str, test or []))},
            "parts": report.parts,
            "findings": [asdict(finding) for finding in report.findings],
        }
        with atomic_path(json_file) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    if report.has_errors:
        raise typer.Exit(FOUND_ERRORS)


@data.command()
@reads_labels
def convert(
    files: FilesArgument,
    output: Annotated[Path, typer.Option(help="Database to write: NAME.db (SQLite) or NAME.aselmdb (LMDB).")],
    label_options: dict[str, Any],
    overwrite: OverwriteOption = False,
) -> None:
    """Write labelled structures to one database in eV and Å, from which training can stream (`data.streaming`)."""
    refuse_to_lose([output], files, overwrite)
    config = label_config(label_options)
    count = write_database(output, (frame for file in files for frame in iterate_frames(file, config)))
    console.print(
        f"wrote {count} structures to {output}, in eV and Å: leave units and keys out of [data]", soft_wrap=True
    )
    for option, name in (
        ("polarizability_key", "polarizability_key"),
        ("born_key", "readout_keys.born_effective_charges"),
    ):
        if label_options[option] is not None:
            console.print(f'but set {name} = "{name.removesuffix("_key").rpartition(".")[2]}"', soft_wrap=True)


def _show(report: Report) -> None:
    several = len(report.parts) > 1
    for name, contents in report.parts.items():
        labelled = "".join(f", {amount} with {label}" for label, amount in contents["labels"].items() if amount)
        title = f"{name}: " if several else ""
        console.print(f"{title}{contents['frames']} frames{labelled}", style="bold", soft_wrap=True, highlight=False)
        console.print(_element_table(contents))
    for finding in report.findings:
        console.print(_finding_text(finding, several), soft_wrap=True)
    amounts = [sum(f.severity == severity for f in report.findings) for severity in _STYLES]
    summary = ", ".join(
        f"{amount} {severity}{'' if amount == 1 else 's'}" for amount, severity in zip(amounts, _STYLES, strict=True)
    )
    console.print(summary, style="bold red" if amounts[0] else "bold green")


def _element_table(contents: dict[str, Any]) -> Table:
    table = Table(box=None)
    for column in ("element", "atoms", "frames"):
        table.add_column(column, justify="left" if column == "element" else "right")
    for symbol, amounts in contents["elements"].items():
        table.add_row(symbol, str(amounts["atoms"]), str(amounts["frames"]))
    return table


def _finding_text(finding: Finding, several: bool) -> Text:
    where = f"{finding.check} ({finding.part})" if several else finding.check
    text = Text.assemble((f"{finding.severity}: ", _STYLES[finding.severity]), f"{where}: {finding.message}")
    if finding.frames:
        text.append(f"; frames {numbers(finding.frames)}")
    if finding.cure:
        text.append(f"\n    → {finding.cure}")
    return text
