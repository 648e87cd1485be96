"""``ase-equivariant relax``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from ase import Atoms

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.cli.common import (
    DeviceOption,
    DtypeOption,
    ModelArgument,
    OutputOption,
    OverwriteOption,
    console,
    expand_folders,
    naming,
    read_structure,
    refuse_to_lose,
)
from ase_equivariant.cli.relax_many import relax_many
from ase_equivariant.engines.throughput import Job
from ase_equivariant.recipes.relax import check_relaxation
from ase_equivariant.recipes.relax import relax as relax_atoms


def relax(
    model: ModelArgument,
    files: Annotated[
        list[str], typer.Argument(help="Structures: any file ASE reads, a folder of them, molecule:NAME or bulk:NAME.")
    ],
    optimizer: Annotated[str, typer.Option(help="Any of ASE's.")] = "BFGS",
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force of a converged structure.")] = 0.01,
    steps: Annotated[int, typer.Option(help="At most so many.")] = 500,
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cell too.")] = False,
    pressure: Annotated[float, typer.Option(help="GPa, with --cell.")] = 0.0,
    file_format: Annotated[
        str, typer.Option("--format", help="Ending of the relaxed files, as ASE writes them.")
    ] = "extxyz",
    parsl: Annotated[
        Path | None,
        typer.Option(
            help="Python file with `config = parsl.Config(…)`: relax every frame of every file on its workers."
        ),
    ] = None,
    chunk: Annotated[int, typer.Option(help="Structures in a task, with --parsl.")] = 8,
    output_dir: OutputOption = Path("."),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
) -> None:
    """Relax structures, in float64 unless --dtype says otherwise.

    With --parsl all go to relaxed.extxyz; --steps 0 evaluates. Killed at any moment, the same command goes on where it
    was: results are kept in the folder relax.results as they come.
    """
    settings: dict[str, Any] = {
        "optimizer": optimizer,
        "fmax": fmax,
        "steps": steps,
        "cell": cell,
        "pressure_GPa": pressure,
    }
    if parsl is not None:
        if file_format != "extxyz":
            raise ValueError(f"--format {file_format}: with --parsl all structures go to one extxyz file")
        job = Job.of(model, device=device, dtype=dtype, **settings)
        if not relax_many(job, files, parsl, chunk, output_dir, overwrite):
            raise typer.Exit(2)
        return
    check_relaxation(**settings)
    sources = expand_folders(files)
    structures = [read_structure(source) for source in sources]
    names = [name for name, _ in structures]
    if len(set(names)) < len(names):
        raise ValueError(f"two structures have the same name ({', '.join(names)}): relax them into different folders")
    outputs = [output_dir / f"{name}.relaxed.{file_format}" for name in names]
    trajectories = [output_dir / f"{name}.relax.extxyz" for name in names]
    refuse_to_lose([*outputs, *trajectories], sources, overwrite)
    calculator = EquivariantCalculator(model, device=device, dtype=dtype, preset="relax")
    unconverged = []
    for source, (name, atoms), output, trajectory in zip(sources, structures, outputs, trajectories, strict=True):
        atoms.calc = calculator
        with naming(source):
            if not _relax_one(name, atoms, output, trajectory, settings):
                unconverged.append(name)
    if unconverged:
        raise typer.Exit(2)


def _relax_one(name: str, atoms: Atoms, output: Path, trajectory: Path, settings: dict[str, Any]) -> bool:
    """Relax with a line of progress and one of what came out; whether it converged."""
    with console.status(f"relaxing {name}") as status:

        def show(step: int, energy: float, force: float) -> None:
            status.update(f"relaxing {name}: step {step}, {energy:.5f} eV, largest force {force:.4f} eV/Å")

        result = relax_atoms(atoms, **settings, trajectory=trajectory, output=output, progress=show)
    volume = ""
    if settings["cell"] and result.volume_before_A3 is not None:
        volume = f", volume {result.volume_before_A3:.3f} to {result.volume_after_A3:.3f} Å³"
    state = "converged" if result.converged else "NOT converged"
    console.print(
        f"{name}: {state} in {result.steps} steps, energy {result.energy_before_eV:.5f} to "
        f"{result.energy_after_eV:.5f} eV{volume}, largest force {result.max_force:.4f} eV/Å; wrote {output}",
        soft_wrap=True,
    )
    return result.converged
