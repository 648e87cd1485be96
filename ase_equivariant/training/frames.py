"""Labelled structures, as read from files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class Frame:
    """One structure with its reference labels; a missing label is None.

    Attributes
    ----------
    atoms : ase.Atoms
        The structure, without a calculator.
    energy : float or None
        eV.
    forces : ndarray or None
        (N, 3) eV/Å.
    stress : ndarray or None
        (3, 3) eV/Å³, tensile positive.
    """

    atoms: Atoms
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None

    @property
    def is_isolated_atom(self) -> bool:
        """Whether this is a single atom without periodic images."""
        return len(self.atoms) == 1 and not self.atoms.pbc.any()
