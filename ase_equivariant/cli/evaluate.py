"""``ase-equivariant evaluate``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from ase_equivariant.cli.common import DeviceOption, DtypeOption, ModelArgument, console, naming, refuse_to_lose
from ase_equivariant.cli.label_options import label_config, reads_labels
from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.io.model_file import load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.plotting.figure import check_picture, new_figure, save_figure
from ase_equivariant.plotting.parity import plot_parity
from ase_equivariant.potential.potential import Potential
from ase_equivariant.precision import parse_dtype
from ase_equivariant.training.evaluate import Evaluation, unit
from ase_equivariant.training.evaluate import evaluate as evaluate_frames
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import read_frames

_UNITS = {
    "energy_per_atom": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "dipole": "e·Å", "polarizability": "e²·Å²/eV",
    "charges": "e", "born_effective_charges": "e",
}  # fmt: skip


@reads_labels
def evaluate(
    model: ModelArgument,
    data: Annotated[list[str], typer.Argument(help="Labelled structures: any file ASE reads, or an MD17 npz.")],
    label_options: dict[str, Any],
    batch_size: Annotated[int, typer.Option(min=1, help="Structures at a time.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the errors to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a parity plot to this file.")] = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
) -> None:
    """Compare a model with reference labels: table of errors, parity plot."""
    refuse_to_lose([json_file, plot], [model, *data], overwrite=True)
    if plot is not None:
        with naming("--plot"):
            check_picture(plot)
    config = label_config(label_options)
    frames = {file: read_frames(file, config) for file in data}
    precision = parse_dtype(dtype or "float64")
    potential = load_model(resolve(model)).potential.to(device=device, dtype=precision)
    _refuse_unknown_elements(potential, frames)
    evaluation = evaluate_frames(potential, [frame for of_file in frames.values() for frame in of_file], batch_size)
    console.print(error_table(evaluation, "errors"))
    if json_file is not None:
        content = {
            "model": model,
            "data": data,
            "num_structures": evaluation.num_structures,
            "num_atoms": evaluation.num_atoms,
            "errors": evaluation.errors(),
        }
        with atomic_path(json_file) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    if plot is not None:
        _draw(evaluation, plot)


def _refuse_unknown_elements(potential: Potential, frames: Mapping[str, Sequence[Frame]]) -> None:
    """Evaluation would say which elements, but not of which structure."""
    known = set(potential.species)
    for file, of_file in frames.items():
        for k, frame in enumerate(of_file):
            if not known.issuperset(frame.atoms.symbols.species()):
                with naming(f"{file}: structure {k}"):
                    potential.species_indices(torch.tensor(frame.atoms.numbers, device=potential.device))


def error_table(evaluation: Evaluation, title: str) -> Table:
    """Errors by quantity, and how far the reference values are spread."""
    table = Table(title=f"{title}: {evaluation.num_structures} structures, {evaluation.num_atoms} atoms")
    for column in ("quantity", "unit", "MAE", "RMSE", "largest", "spread of the data"):
        table.add_column(column, justify="left" if column in ("quantity", "unit") else "right")
    for name, comparison in evaluation.comparisons.items():
        values = (comparison.mae, comparison.rmse, comparison.largest, comparison.spread)
        table.add_row(name.replace("_", " "), unit(name), *(f"{1000 * value:.3g}" for value in values))
    return table


def _draw(evaluation: Evaluation, path: Path) -> None:
    shown = [name for name in evaluation.comparisons if name != "energy" and not name.startswith("forces_")]
    figure = new_figure(4.2 * len(shown), 4.2)
    for ax, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        comparison = evaluation.comparisons[name]
        plot_parity(
            comparison.reference.ravel(), comparison.predicted.ravel(), ax, name.replace("_", " "), _UNITS.get(name, "")
        )
    save_figure(figure, path)
