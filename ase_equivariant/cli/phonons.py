"""``ase-equivariant phonons``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ase_equivariant.cli.common import (
    DeviceOption,
    DtypeOption,
    FileArgument,
    ModelArgument,
    OutputOption,
    OverwriteOption,
    console,
    number_table,
    read_structure,
    relaxed_crystal,
)
from ase_equivariant.cli.results import result_files, write_results
from ase_equivariant.plotting.figure import new_figure
from ase_equivariant.plotting.phonons import plot_bands, plot_phonon_dos
from ase_equivariant.recipes.phonons import check_phonons
from ase_equivariant.recipes.phonons import phonons as phonons_of


def phonons(
    model: ModelArgument,
    file: FileArgument,
    supercell: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Repetitions of the cell; default faces at least 10 Å apart.")
    ] = None,
    displacement: Annotated[float, typer.Option(help="Å, of one atom at a time.")] = 0.01,
    path: Annotated[str | None, typer.Option(help="Band path such as GXWKGL; default that of the lattice.")] = None,
    output_dir: OutputOption = Path("."),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
) -> None:
    """Relax a crystal and compute its phonons with phonopy, in float64 unless --dtype says otherwise."""
    name, atoms = read_structure(file)
    files = result_files(output_dir, name, "phonons", overwrite)
    check_phonons(atoms, supercell, displacement, path)
    relaxed_crystal(model, atoms, device, dtype)
    with console.status("displacing atoms"):
        found = phonons_of(atoms, supercell, displacement_A=displacement, path=path)
    rows = [(key, *(f"{x + 0.0:.2f}" for x in values.round(2))) for key, values in found.special_THz.items()]
    bands = tuple(str(k + 1) for k in range(len(found.gamma_THz)))
    console.print(number_table(("THz", *bands), rows, f"supercell {found.supercell}"))
    if found.lowest_THz < -0.1:
        console.print(f"imaginary frequencies, down to {found.lowest_THz:.2f} THz: this is no minimum")
    figure = new_figure(8.0, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    plot_bands(found, left)
    plot_phonon_dos(found, right)
    write_results(files, {"model": model, "structure": file, "cell_A": atoms.cell.array, "phonons": found}, figure)
