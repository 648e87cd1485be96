"""Foreign files by their content: which importer reads one, and reading it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from ase_equivariant.io.foreign import IMPORTERS
from ase_equivariant.io.foreign.converted import Converted, ForeignModelError
from ase_equivariant.io.foreign.safe_pickle import UnsafePickleError
from ase_equivariant.io.foreign.torch_archive import TorchArchive


def importer_of(path: Path) -> ModuleType | None:
    """The importer that recognizes the file at ``path``, if one does."""
    return next((importer for importer in IMPORTERS if importer.recognizes(path)), None)


def convert_file(path: Path, *, modal: str | None = None) -> Converted:
    """Read a foreign model file, of whatever kind it is.

    Raises
    ------
    FileNotFoundError, ForeignModelError
        If there is no such file, no importer recognizes it, or it cannot be represented.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    importer = importer_of(path)
    if importer is None:
        kinds = ", ".join(importer.__name__.rsplit(".", 1)[-1] for importer in IMPORTERS)
        message = f"{path} is not a model file of any kind that can be converted ({kinds})"
        raise ForeignModelError(": ".join(filter(None, (message, _problem(path)))))
    converted: Converted = importer.convert(path, modal=modal)
    return converted


def _problem(path: Path) -> str:
    """What is wrong with a file that is PyTorch's by its first bytes; empty for others."""
    with open(path, "rb") as file:
        if file.read(2) not in (b"PK", b"\x80\x02"):  # a zip archive, and what PyTorch wrote before
            return ""
    try:
        with TorchArchive(path) as archive:
            if archive.is_program:
                return "it is a compiled TorchScript program, convert the checkpoint that it was made of"
            archive.load()
    except UnsafePickleError as error:
        return str(error)
    return ""
