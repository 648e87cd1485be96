"""Foreign files by their content: which importer reads one, and reading it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import ModuleType

from ase_equivariant.io.file_kind import is_safetensors, what_else
from ase_equivariant.io.foreign import IMPORTERS
from ase_equivariant.io.foreign.converted import Converted, ForeignModelError
from ase_equivariant.io.foreign.safe_pickle import UnsafePickleError
from ase_equivariant.io.foreign.torch_archive import TorchArchive


def importer_of(path: Path) -> ModuleType | None:
    """The importer that recognizes the file at ``path``, if one does."""
    return next((importer for importer in IMPORTERS if importer.recognizes(path)), None)


def find_importer(path: Path) -> ModuleType:
    """The importer of the file at ``path``.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, ForeignModelError
        If there is no such file, or no importer recognizes it; says what else it is, if that is known.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the model file in it")
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    importer = importer_of(path)
    if importer is None:
        kinds = ", ".join(importer.__name__.rsplit(".", 1)[-1] for importer in IMPORTERS)
        message = f"{path} is not a model file of any kind that can be converted ({kinds})"
        raise ForeignModelError(": ".join(filter(None, (message, _problem(path)))))
    return importer


def convert_file(path: Path, *, modal: str | None = None) -> Converted:
    """Read a foreign model file, of whatever kind it is.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, ForeignModelError
        If there is no such file, no importer recognizes it, or it cannot be represented.
    """
    converted: Converted = find_importer(path).convert(path, modal=modal)
    return converted


def _problem(path: Path) -> str:
    """What is wrong with a file that no importer recognizes; empty if nothing is known of it."""
    if is_safetensors(path):
        return "it is a safetensors file, and models of this package are used as they are"
    if not zipfile.is_zipfile(path):
        return what_else(path)
    try:
        with TorchArchive(path) as archive:
            if archive.is_program:
                return "it is a compiled program, convert the checkpoint that it was made of"
            archive.load()
    except UnsafePickleError as error:
        return str(error)
    return "it is a PyTorch file with something else in it"
