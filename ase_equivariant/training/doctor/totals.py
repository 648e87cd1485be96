"""Total energies of all-electron calculations, which tell their unit."""

from __future__ import annotations

import numpy as np
from ase.units import Hartree

from ase_equivariant.training.doctor.dataset import Dataset

# Relativity, which the formula leaves out, takes 2 % at Kr and 7 % at Au.
_HEAVIEST = 36


def statistical_energy(numbers: np.ndarray) -> np.ndarray:
    """Energy of free atoms in eV, all electrons, not relativistic.

    Within 1 % of Hartree-Fock from carbon on, 8 % above it for hydrogen.

    References
    ----------
    B.-G. Englert, J. Schwinger, Phys. Rev. A 32, 47 (1985).
    """
    z = np.asarray(numbers, dtype=float)
    return Hartree * (-0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.2699 * z ** (5 / 3))


def total_over_statistical(data: Dataset) -> float | None:
    """Median of energy over the sum of free atoms' energies; None where that is no guide.

    Energies of pseudopotentials, cohesive or atomization energies give a number without meaning: it is the caller
    who sees whether it is that of a unit.
    """
    ratios = [
        frame.energy / float(statistical_energy(frame.atoms.numbers).sum())
        for frame in data.frames
        if frame.energy is not None and 3 <= frame.atoms.numbers.max() <= _HEAVIEST
    ]
    return float(np.median(ratios)) if ratios else None
