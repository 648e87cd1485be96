"""Models that other packages trained, read without those packages.

Every importer has ``recognizes(path)`` and ``convert(path, *, modal=None)``, which gives a
:class:`~ase_equivariant.io.foreign.converted.Converted`.
"""

from ase_equivariant.io.foreign import nequip, nequix, sevennet

IMPORTERS = (nequix, sevennet, nequip)

__all__ = ["IMPORTERS"]
