"""``ase-equivariant torsion``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase.io import write

from ase_equivariant.calculator import EquivariantCalculator
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
    refuse_to_lose,
    relaxed_molecule,
)
from ase_equivariant.cli.results import result_files, write_results
from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.plotting.figure import new_figure
from ase_equivariant.plotting.torsion import plot_torsion
from ase_equivariant.recipes.torsion import torsion_scan, turning_atoms


def torsion(
    model: ModelArgument,
    file: FileArgument,
    dihedral: Annotated[
        tuple[int, int, int, int], typer.Argument(help="Four atoms along a chain, counted from 0.", show_default=False)
    ],
    step: Annotated[float, typer.Option(help="Degrees between points.")] = 15.0,
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force on what is relaxed.")] = 0.01,
    output_dir: OutputOption = Path("."),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
) -> None:
    """Turn a molecule about a bond, everything else relaxed, in float64 unless --dtype says otherwise."""
    name, atoms = read_structure(file)
    if not 0 < step <= 180:
        raise ValueError(f"step = {step}: use degrees above 0, up to 180")
    turning_atoms(atoms, dihedral)
    files = result_files(output_dir, name, "torsion", overwrite)
    structures = files[0].with_suffix(".extxyz")
    refuse_to_lose([structures], [file], overwrite)
    atoms.calc = EquivariantCalculator(model, device=device, dtype=dtype, preset="relax")
    converged = relaxed_molecule(atoms, fmax)
    with console.status("turning"):
        found = torsion_scan(atoms, dihedral, np.arange(0.0, 360.0 + 1e-9, step), fmax=fmax)
    points = zip(found.angles_deg, found.energies_eV, found.converged, strict=True)
    rows = [(f"{angle:g}", f"{1000 * energy:.1f}", "" if done else "NOT relaxed") for angle, energy, done in points]
    console.print(number_table(("angle (°)", "energy (meV)", ""), rows))
    with atomic_path(structures) as temporary:
        write(temporary, found.frames)
    figure = new_figure(6.4, 4.2)
    plot_torsion(found, figure.subplots())
    write_results(files, {"model": model, "structure": file, "torsion": found}, figure)
    console.print(f"wrote {structures}", soft_wrap=True)
    if not (converged and found.converged.all()):
        raise typer.Exit(2)
