"""Harmonic vibrations of a molecule, translations and rotations taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from ase import Atoms, units
from scipy.linalg import null_space, orth

from ase_equivariant.calculator import EquivariantCalculator

# √(eV/Å²/amu) as an angular frequency, in 1/cm.
_PER_CM = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm
_MAX_FORCE = 0.01


@dataclass(frozen=True)
class NormalModes:
    """Normal modes: 3 N − 6 of them, 3 N − 5 if the molecule is linear.

    Attributes
    ----------
    frequencies_per_cm : ndarray
        (modes,) ascending; imaginary ones are negative.
    displacements : ndarray
        (modes, N, 3) dr/dQ in 1/√amu, of mass-weighted normal coordinates Q in Å·√amu.
    """

    frequencies_per_cm: np.ndarray
    displacements: np.ndarray

    @property
    def zero_point_eV(self) -> float:
        """Zero-point energy of the modes that are not imaginary."""
        return float(self.frequencies_per_cm[self.frequencies_per_cm > 0].sum() * units.invcm / 2)


def normal_modes(atoms: Atoms, hessian: np.ndarray | None = None) -> NormalModes:
    """Diagonalize the Hessian of a relaxed molecule within its vibrations.

    Parameters
    ----------
    atoms : Atoms
        With an :class:`~ase_equivariant.EquivariantCalculator` in float64; not changed.
    hessian : ndarray, optional
        (3 N, 3 N) eV/Å², default the calculator's, analytic.

    Raises
    ------
    ValueError
        If the atoms are periodic, fewer than two, or not relaxed.

    References
    ----------
    Wilson, Decius and Cross, Molecular Vibrations (1955).
    """
    if atoms.pbc.any():
        raise ValueError(f"{atoms.symbols} is periodic: normal modes are of molecules, use phonons for a crystal")
    if len(atoms) < 2:
        raise ValueError("a single atom does not vibrate")
    force = float(np.abs(atoms.get_forces()).max())
    if force > _MAX_FORCE:
        raise ValueError(
            f"the largest force is {force:.2g} eV/Å: relax the molecule first, to {_MAX_FORCE} eV/Å or less"
        )
    if hessian is None:
        hessian = equivariant_calculator(atoms).get_hessian(atoms)
    masses = atoms.get_masses()
    weights = 1 / np.sqrt(np.repeat(masses, 3))
    inner = null_space(rigid_motions(atoms.positions, masses).T)
    squares, vectors = np.linalg.eigh(inner.T @ (hessian * np.outer(weights, weights)) @ inner)
    displacements = ((inner @ vectors) * weights[:, None]).T.reshape(-1, len(atoms), 3)
    return NormalModes(np.sign(squares) * np.sqrt(np.abs(squares)) * _PER_CM, displacements)


def rigid_motions(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted translations and rotations, (3 N, 6), of a linear molecule (3 N, 5), of an atom 3."""
    centred = positions - masses @ positions / masses.sum()
    size = max(1.0, float(np.abs(centred).max()))
    axes = np.eye(3)
    moves = [np.broadcast_to(axis, centred.shape) for axis in axes] + [np.cross(axis, centred) / size for axis in axes]
    weighted = np.stack([(np.sqrt(masses)[:, None] * move).ravel() for move in moves], axis=1)
    return cast(np.ndarray, orth(weighted, rcond=1e-4))


def equivariant_calculator(atoms: Atoms) -> EquivariantCalculator:
    """The calculator of ``atoms``.

    Raises
    ------
    ValueError
        If it is none of this package's.
    """
    calc: Any = atoms.calc
    if not isinstance(calc, EquivariantCalculator):
        raise ValueError(f"atoms.calc is {type(calc).__name__}: give the atoms an EquivariantCalculator")
    return calc
