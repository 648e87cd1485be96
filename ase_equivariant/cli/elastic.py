"""``ase-equivariant elastic``."""

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
from ase_equivariant.plotting.elastic import plot_stiffness
from ase_equivariant.plotting.figure import new_figure
from ase_equivariant.recipes.elastic import check_elastic, elastic_constants

_COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")


def elastic(
    model: ModelArgument,
    file: FileArgument,
    strain: Annotated[float, typer.Option(help="Of each component, in both directions.")] = 0.005,
    output_dir: OutputOption = Path("."),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
) -> None:
    """Relax a crystal and compute its elastic constants, in float64 unless --dtype says otherwise."""
    name, atoms = read_structure(file)
    files = result_files(output_dir, name, "elastic", overwrite)
    check_elastic(atoms, strain)
    relaxed_crystal(model, atoms, device, dtype)
    with console.status("straining"):
        found = elastic_constants(atoms, strain)
    rows = [(a, *(f"{x + 0.0:.1f}" for x in row)) for a, row in zip(_COMPONENTS, found.C_GPa.round(1), strict=True)]
    console.print(number_table(("C (GPa)", *_COMPONENTS), rows))
    for kind in ("bulk", "shear"):
        voigt, reuss, hill = (getattr(found, f"{kind}_{bound}_GPa") for bound in ("voigt", "reuss", "hill"))
        console.print(f"{kind} modulus {hill:.1f} GPa (Hill; Reuss {reuss:.1f}, Voigt {voigt:.1f})")
    console.print(f"Young's modulus {found.young_GPa:.1f} GPa, Poisson's ratio {found.poisson:.3f}")
    if not found.stable:
        console.print("NOT stable: some strain lowers the energy")
    figure = new_figure(5.6, 5.0)
    plot_stiffness(found, figure.subplots())
    write_results(files, {"model": model, "structure": file, "cell_A": atoms.cell.array, "elastic": found}, figure)
