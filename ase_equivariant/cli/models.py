"""``ase-equivariant models``: universal models, and those of other packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from ase_equivariant.cli.common import console
from ase_equivariant.cli.info import info as info_of_file
from ase_equivariant.io.cache import cache_folder, cached_model
from ase_equivariant.io.catalog import CATALOG, KnownModel, known_model
from ase_equivariant.io.file_kind import is_safetensors, name_of_model
from ase_equivariant.io.foreign.importing import convert_file, find_importer
from ase_equivariant.io.install import install, installed_files, intact_files, save_exactly
from ase_equivariant.io.model_file import read_header
from ase_equivariant.io.registry import ModelNotFoundError, check_modality, resolve, shipped_models

models = typer.Typer(name="models", help="Universal models, and models of other packages.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
ModalOption = Annotated[str | None, typer.Option(help="Level of theory of a multi-fidelity model.")]


@models.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the models there are by name: those shipped, and universal ones that can be fetched."""
    rows = [_shipped(name, path) for name, path in shipped_models().items()]
    rows += [_universal(model) for model in CATALOG.values()]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("name", "installed", "elements", "size", "licence"):
        table.add_column(heading, justify="right" if heading in ("elements", "size") else "left", no_wrap=True)
    for heading in ("level of theory", "from"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        here = "yes" if row["installed"] else "no"
        table.add_row(row["name"], here, str(row["elements"]), _size(row["bytes"]), row["license"],
                      row["level_of_theory"], row["from"])  # fmt: skip
    wide = console if console.is_terminal else Console(width=160, markup=False)  # in a pipe, a line for each model
    wide.print(table)
    console.print(f"cache: {cache_folder()}", soft_wrap=True)


@models.command()
def get(
    names: Annotated[list[str], typer.Argument(help="Names of universal models, or 'all'.")],
    given: Annotated[
        Path | None,
        typer.Option("--from", help="The published file, or the wheel that holds it, instead of the network."),
    ] = None,
) -> None:
    """Fetch universal models, verify and convert them, and keep them in the cache."""
    chosen = list(CATALOG.values()) if names == ["all"] else [_known(name)[0] for name in names]
    for model in chosen:
        if given is None and intact_files(model):
            console.print(f"{model.name}: installed already, and whole", soft_wrap=True)
            continue
        files = _install(model, given)
        for file in files:
            console.print(f"{model.name}: {file}", soft_wrap=True)


@models.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Model file of SevenNet, Nequix or NequIP.")],
    output: Annotated[Path | None, typer.Option(help="File or folder; default NAME.safetensors, here.")] = None,
    modal: ModalOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Convert a model of another package to a model file. Nothing of that package is needed, or run."""
    find_importer(file)
    target = Path(f"{name_of_model(file)}{f'.{modal}' if modal else ''}.safetensors")
    if output is not None:
        target = output / target if output.is_dir() else output
    if target.exists() and target.samefile(file):
        raise FileExistsError(f"{target} is the file to be converted: choose another name for --output")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists: replace it with --overwrite")
    converted = convert_file(file, modal=modal)
    save_exactly(target, converted.potential, converted.card)
    console.print(
        f"{target}: {len(converted.potential.species)} elements, cutoff {converted.potential.cutoff:g} Å",
        soft_wrap=True,
    )


@models.command()
def info(
    model: Annotated[str, typer.Argument(help="Name, or path of a model file of this or another package.")],
    modal: ModalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a model is and where it comes from, without fetching it."""
    path = Path(model).expanduser()
    if path.is_file() and path.suffix != ".safetensors" and not is_safetensors(path):
        importer = find_importer(path)
        _print(_foreign(path, importer.__name__.rsplit(".", 1)[-1], modal), as_json)
        return
    found = None if path.is_file() or model in shipped_models() else known_model(model)
    if found is None:
        info_of_file(str(resolve(model, modal)), as_json)
        return
    known, named = found
    modal = modal or named
    if modal is not None:
        check_modality(known, modal)
    if installed_files(known) and (modal is not None or not known.modalities):
        info_of_file(str(cached_model(known.name, modal)), as_json)
        return
    _print(_universal(known) | known.card.model_dump(mode="json", exclude_defaults=True), as_json)


def _install(model: KnownModel, given: Path | None) -> list[Path]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(f"{model.name} from {given or model.origin}", total=None)
        files = install(model, given=given, progress=lambda done, total: bar.update(task, completed=done, total=total))
        bar.update(task, total=1, completed=1, visible=False)
    return files


def _known(name: str) -> tuple[KnownModel, str | None]:
    known = known_model(name)
    if known is None:
        raise ModelNotFoundError(f"no universal model named {name!r}: choose from {', '.join(CATALOG)}")
    return known


def _universal(model: KnownModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "elements": model.num_elements,
        "level_of_theory": model.card.level_of_theory,
        "modalities": model.modalities,
        "bytes": model.source.size,
        "license": model.card.license,
        "from": model.origin,
        "sha256": model.source.sha256,
        "installed": bool(installed_files(model)),
    }


def _shipped(name: str, path: Path) -> dict[str, Any]:
    header = read_header(path)
    return {
        "name": name,
        "elements": len(header.config.architecture.species),
        "level_of_theory": header.card.level_of_theory,
        "modalities": {},
        "bytes": path.stat().st_size,
        "license": header.card.license,
        "from": "this package",
        "sha256": header.sha256,
        "installed": True,
    }


def _foreign(path: Path, kind: str, modal: str | None) -> dict[str, Any]:
    converted = convert_file(path, modal=modal)
    return {
        "file": str(path),
        "kind": kind,
        "elements": ", ".join(converted.potential.species),
        "modalities": list(converted.modalities),
        "cutoff": converted.potential.cutoff,
        "parameters": sum(p.numel() for p in converted.potential.parameters()),
        "network": converted.potential.config.architecture.model_dump(mode="json", exclude={"species"}),
        **converted.card.model_dump(mode="json", exclude_defaults=True),
    }


def _print(rows: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value not in ({}, [], ""):
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            table.add_row(name.replace("_", " "), _size(value) if name == "bytes" else shown)
    console.print(table)


def _size(count: int) -> str:
    return f"{count / 1e6:.{1 if count < 1e7 else 0}f} MB"
