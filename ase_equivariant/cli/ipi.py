"""``ase-equivariant ipi``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ase_equivariant.cli.common import (
    DeviceOption,
    DtypeOption,
    FileArgument,
    ModelArgument,
    OverwriteOption,
    console,
    read_structure,
)
from ase_equivariant.engines.ipi_input import IPIRun, write_ipi


def ipi(
    model: ModelArgument,
    file: FileArgument,
    temperature: Annotated[
        list[float] | None, typer.Option(help="K; several times for replica exchange (default 300).")
    ] = None,
    beads: Annotated[int, typer.Option(help="Of each ring polymer; 1 is classical.")] = 16,
    timestep: Annotated[float, typer.Option(help="fs.")] = 0.5,
    time_ps: Annotated[float, typer.Option(help="ps.")] = 1.0,
    every: Annotated[int, typer.Option(help="Steps between records.")] = 10,
    exchange_every: Annotated[int, typer.Option(help="Steps between attempts to exchange replicas.")] = 20,
    transport: Annotated[
        str, typer.Option(help="direct: in i-PI itself; unix, inet: by a socket; lammps: divided by LAMMPS.")
    ] = "direct",
    port: Annotated[int, typer.Option(help="Of inet.")] = 31415,
    seed: Annotated[int, typer.Option(help="Of velocities and thermostats.")] = 1,
    output_dir: Annotated[Path | None, typer.Option(help="Folder to write; default NAME-ipi.")] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
) -> None:
    """Write input for i-PI: path integrals, and replica exchange where there are several temperatures."""
    name, atoms = read_structure(file)
    run = IPIRun(
        name=name,
        temperatures_K=tuple(temperature or (300.0,)),
        beads=beads,
        timestep_fs=timestep,
        time_ps=time_ps,
        every=every,
        exchange_every=exchange_every,
        transport=transport,  # type: ignore[arg-type] # checked there
        port=port,
        seed=seed,
    )
    folder = output_dir if output_dir is not None else Path(f"{name}-ipi")
    if (folder / "input.xml").exists() and not overwrite:
        raise FileExistsError(f"{folder / 'input.xml'} exists: replace it with --overwrite")
    commands = write_ipi(folder, atoms, run, model, device=device, dtype=dtype)
    together = "one after the other" if transport == "lammps" else "in one evaluation"
    console.print(
        f"{run.steps} steps of {run.structures} structures {together}; wrote {folder}. Run in it:",
        soft_wrap=True,
    )
    for command in commands:
        console.print(f"  {command}", soft_wrap=True, highlight=False)
