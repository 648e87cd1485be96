"""What commands share: options, structures by name, and errors in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from ase.io.formats import filetype, ioformats
from rich.console import Console
from rich.table import Table

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.recipes.relax import relax

console = Console(markup=False)  # brackets in names of files are brackets

FileArgument = Annotated[str, typer.Argument(help="Structure: any file ASE reads, molecule:NAME or bulk:NAME.")]
ModelArgument = Annotated[str, typer.Argument(help="Name of a shipped model, or path of a model file.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")]
DtypeOption = Annotated[str | None, typer.Option(help="float32 or float64 instead of the command's own choice.")]
OutputOption = Annotated[Path, typer.Option(help="Folder for everything that is written.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote.")]


def read_structure(source: str) -> tuple[str, Atoms]:
    """A structure and its short name, from a file (its last, which is said) or ``molecule:NAME`` or ``bulk:NAME``.

    Raises
    ------
    OSError, ValueError
        If there is no such file or name, it is a folder, the file cannot be read, or the structure has no atoms.
    """
    kind, _, name = source.partition(":")
    if kind in ("molecule", "bulk") and name:
        try:
            return name, molecule(name) if kind == "molecule" else bulk(name)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"{source}: ASE knows no such {kind} ({error})") from None
    _refuse_folder(source)
    if not Path(source).is_file():
        raise FileNotFoundError(f"{source}: no such file (molecule:NAME and bulk:NAME take a structure from ASE)")
    frames = read_frames(source, "-1" if _is_of_one(source) else "-2:")
    if not len(frames[-1]):
        raise ValueError(f"{source}: {'its last' if len(frames) > 1 else 'the'} structure has no atoms")
    if len(frames) > 1:
        console.print(f"{source} holds several structures: the last one is taken", soft_wrap=True)
    return _short_name(source), frames[-1]


def read_frames(path: str | Path, index: str = ":") -> list[Atoms]:
    """Structures of a file, by default all of them; never none.

    Raises
    ------
    OSError, ValueError
        If there is no such file, it is a folder, or ASE cannot read it.
    """
    _refuse_folder(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        frames = read(path, index)
    except Exception as error:  # ASE's readers raise whatever their format makes them stumble on
        raise ValueError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from None
    found = frames if isinstance(frames, list) else [frames]
    if not found:
        raise ValueError(f"{path}: holds no structure")
    return found


def read_structures(source: str) -> dict[str, Atoms]:
    """All structures of a source as of :func:`read_structure`: NAME, or NAME-0, NAME-1, … where a file has several."""
    if not Path(source).is_file():
        return dict([read_structure(source)])
    name, frames = _short_name(source), read_frames(source)
    return {name: frames[0]} if len(frames) == 1 else {f"{name}-{k}": frame for k, frame in enumerate(frames)}


def _is_of_one(path: str) -> bool:
    """Whether the file's format holds one structure, where ASE takes no count from the end."""
    try:
        return bool(ioformats[filetype(path)].single)
    except Exception:  # what ASE cannot tell, read_frames reports
        return True


def _refuse_folder(path: str | Path) -> None:
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")


def _short_name(path: str) -> str:
    return Path(path).name.split(".")[0]


@contextmanager
def naming(subject: str) -> Iterator[None]:
    """Put what they are about in front of errors: the library knows of no file that a structure is from, nor options.

    Raises
    ------
    ValueError, RuntimeError
        Of these kinds, as they were raised within.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{subject}: {error}") from error
    except RuntimeError as error:
        raise RuntimeError(f"{subject}: {error}") from error


def expand_folders(sources: Sequence[str]) -> list[str]:
    """The sources with every folder replaced by its files, by name; hidden ones are passed over.

    Raises
    ------
    FileNotFoundError
        If a folder holds no file.
    """
    found: list[str] = []
    for source in sources:
        if not Path(source).is_dir():
            found.append(source)
            continue
        files = sorted(str(path) for path in Path(source).iterdir() if path.is_file() and path.name[0] != ".")
        if not files:
            raise FileNotFoundError(f"{source}: there is no file in this folder")
        found += files
    return found


def refuse_to_lose(outputs: Iterable[Path | None], inputs: Iterable[str | Path], overwrite: bool) -> None:
    """Refuse to write over files: those that are there unless ``overwrite``, what is read and folders in any case.

    Outputs that are None are not asked for.

    Raises
    ------
    FileExistsError, IsADirectoryError
        If an output is an input, under whatever name, or is there and not to be replaced, or is a folder.
    """
    sources = [source for source in inputs if Path(source).exists()]
    for output in outputs:
        if output is None or not output.exists():
            continue
        if output.is_dir():
            raise IsADirectoryError(f"{output} is a folder: name the file to write")
        if any(output.samefile(source) for source in sources):
            raise FileExistsError(
                f"{output} would be written over and is an input: choose another --output-dir, --output or file"
            )
        if not overwrite:
            raise FileExistsError(f"{output} exists: replace it with --overwrite")


def relaxed_crystal(model: str, atoms: Atoms, device: str, dtype: str | None) -> None:
    """Give ``atoms`` the model as calculator and relax them with their cell, in place.

    Raises
    ------
    ValueError, RuntimeError
        If they are no crystal, or do not relax.
    """
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise ValueError(f"{atoms.symbols} is not periodic in all directions: this command is for crystals")
    atoms.calc = EquivariantCalculator(model, device=device, dtype=dtype, preset="phonon")
    with console.status("relaxing"):
        result = relax(atoms, cell=True, fmax=1e-4)
    if not result.converged:
        raise RuntimeError(
            f"the crystal does not relax to 1e-4 eV/Å (largest force {result.max_force:.2g} eV/Å): "
            "relax it with `ase-equivariant relax --cell` and look at what happens"
        )
    lengths, angles = (" ".join(f"{x:.4f}" for x in row) for row in (atoms.cell.lengths(), atoms.cell.angles()))
    console.print(f"relaxed in {result.steps} steps: cell {lengths} Å, {angles}°", soft_wrap=True)


def relaxed_molecule(atoms: Atoms, fmax: float) -> bool:
    """Relax atoms that have a calculator, in place; whether they converged, with a line about it where they did not."""
    with console.status("relaxing"):
        result = relax(atoms, fmax=fmax)
    if not result.converged:
        console.print(
            f"NOT relaxed to {fmax:g} eV/Å: the largest force is {result.max_force:.2g} eV/Å after {result.steps} "
            "steps; relax it with `ase-equivariant relax` first",
            soft_wrap=True,
        )
    return result.converged


def number_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], title: str = "") -> Table:
    """A table whose first column is text and the others are numbers."""
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left")
    for k, column in enumerate(columns):
        table.add_column(column, justify="right" if k else "left")
    for row in rows:
        table.add_row(*row)
    return table
