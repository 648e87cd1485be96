"""``ase-equivariant info``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from ase_equivariant.cli.common import ModelArgument, console
from ase_equivariant.io.model_file import load_model
from ase_equivariant.io.registry import resolve


def info(
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what a model is, what it was trained on and what it is worth. The file is verified on the way."""
    path = resolve(model)
    loaded = load_model(path)
    header = loaded.header
    parameters = sum(p.numel() for p in loaded.potential.parameters())
    if as_json:
        print(json.dumps({"path": str(path), "parameters": parameters, **header.model_dump(mode="json")}, indent=1))
        return
    card, architecture = header.card, header.config.architecture
    rows: dict[str, Any] = {
        "name": card.name,
        "description": card.description,
        "elements": ", ".join(architecture.species),
        "level of theory": card.level_of_theory,
        "cutoff": f"{architecture.cutoff:g} Å",
        "network": f"{architecture.name}, {architecture.summary()}, {parameters} parameters, "
        + str(loaded.potential.dtype).removeprefix("torch."),
        "other read-outs": ", ".join(f"{r.key} ({r.unit})" if r.unit else r.key for r in header.config.readouts),
        "fine-tuned from": _parent(card.training.get("parent")),
        "training data": card.training_data,
        "data licence": card.data_license,
        "model licence": card.license,
        **{error: f"{value:.4g}" for error, value in card.errors.items()},
        "file": f"{path} ({path.stat().st_size / 1e6:.2f} MB, format {header.format_version})",
        "sha256": header.sha256,
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, str(value))
    console.print(table)


def _parent(parent: dict[str, str] | None) -> str:
    if parent is None:
        return ""
    return f"{parent['name']} (sha256 {parent['sha256']}, {parent.get('license', 'licence not stated')})"
