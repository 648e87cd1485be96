"""What commands share: options, structures by name, and errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from rich.console import Console

console = Console()

ModelArgument = Annotated[str, typer.Argument(help="Name of a shipped model, or path of a model file.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")]
DtypeOption = Annotated[str | None, typer.Option(help="float32 or float64 instead of the command's own choice.")]
OutputOption = Annotated[Path, typer.Option(help="Folder for everything that is written.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote.")]


def read_structure(source: str) -> tuple[str, Atoms]:
    """A structure and its short name, from a file or from ``molecule:NAME`` or ``bulk:NAME``.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file or name, or the file cannot be read.
    """
    kind, _, name = source.partition(":")
    if kind in ("molecule", "bulk") and name:
        try:
            return name, molecule(name) if kind == "molecule" else bulk(name)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"{source}: ASE knows no such {kind} ({error})") from None
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"{source}: no such file (molecule:NAME and bulk:NAME take a structure from ASE)")
    try:
        atoms = read(path)
    except Exception as error:  # ASE's readers raise whatever their format makes them stumble on
        raise ValueError(f"{source}: ASE cannot read it ({type(error).__name__}: {error})") from None
    if not isinstance(atoms, Atoms):
        raise ValueError(f"{source}: holds no single structure")
    return path.name.split(".")[0], atoms
