"""Foreign files by their content: which importer reads one, and reading it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from ase_equivariant.io.foreign import IMPORTERS
from ase_equivariant.io.foreign.converted import Converted, ForeignModelError


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
        raise ForeignModelError(f"{path} is not a model file of any kind that can be converted ({kinds})")
    converted: Converted = importer.convert(path, modal=modal)
    return converted
