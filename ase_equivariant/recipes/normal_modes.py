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
# Å off the axis, of an atom of a linear molecule. Forces of _MAX_FORCE leave those that bend softly 0.01 Å off it; the
# angles of bent ones would be above 175° for so little.
_LINEAR = 0.03


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
        (3 N, 3 N) or, as ASE's VibrationsData gives it, (N, 3, N, 3) eV/Å²; default the calculator's, analytic.

    Raises
    ------
    ValueError
        If the atoms are periodic, fewer than two, without mass, or not relaxed, whatever their constraints; or the
        Hessian is none of theirs.

    References
    ----------
    Wilson, Decius and Cross, Molecular Vibrations (1955).
    """
    check_vibrates(atoms)
    force = float(np.abs(atoms.get_forces(apply_constraint=False)).max())  # the Hessian is that of free atoms
    if force > _MAX_FORCE:
        raise ValueError(
            f"the largest force is {force:.2g} eV/Å: relax the molecule first, to {_MAX_FORCE} eV/Å or less, "
            "all atoms free"
        )
    if hessian is None:
        hessian = equivariant_calculator(atoms).get_hessian(atoms)
    else:
        hessian = _as_matrix(hessian, len(atoms))
    masses = atoms.get_masses()
    weights = 1 / np.sqrt(np.repeat(masses, 3))
    inner = null_space(rigid_motions(atoms.positions, masses).T)
    squares, vectors = np.linalg.eigh(inner.T @ (hessian * np.outer(weights, weights)) @ inner)
    displacements = ((inner @ vectors) * weights[:, None]).T.reshape(-1, len(atoms), 3)
    return NormalModes(np.sign(squares) * np.sqrt(np.abs(squares)) * _PER_CM, displacements)


def check_vibrates(atoms: Atoms) -> None:
    """Refuse what has no normal modes.

    Raises
    ------
    ValueError
        If the atoms are periodic, fewer than two, or one has no mass.
    """
    if atoms.pbc.any():
        raise ValueError(f"{atoms.symbols} is periodic: normal modes are of molecules, use phonons for a crystal")
    if len(atoms) < 2:
        raise ValueError("a single atom does not vibrate" if len(atoms) else "the structure has no atoms")
    masses = atoms.get_masses()
    unfit = np.flatnonzero(~((masses > 0) & np.isfinite(masses)))
    if len(unfit):
        k = unfit[0]
        raise ValueError(
            f"atom {k} ({atoms.symbols[k]}) has a mass of {masses[k]:g} amu: give one above 0 (set_masses)"
        )


def _as_matrix(hessian: np.ndarray, num_atoms: int) -> np.ndarray:
    values, size = np.asarray(hessian, dtype=float), 3 * num_atoms
    if values.shape not in ((size, size), (num_atoms, 3, num_atoms, 3)):
        raise ValueError(
            f"hessian has shape {values.shape}: ({size}, {size}) or ({num_atoms}, 3, {num_atoms}, 3) is that of "
            f"{num_atoms} atoms"
        )
    if not np.isfinite(values).all():
        raise ValueError("hessian has values that are not finite: compute it again")
    return values.reshape(size, size)


def rigid_motions(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted translations and rotations, (3 N, 6), of a linear molecule (3 N, 5), of an atom 3.

    A molecule is linear if all atoms are within 0.03 Å of its axis. What a turn about the axis moves in one that is not
    quite straight is a bending vibration.
    """
    centred = positions - masses @ positions / masses.sum()
    size = max(1.0, float(np.abs(centred).max()))
    straight = positions - positions.mean(axis=0)
    axes = np.linalg.eigh(straight.T @ straight)[1].T  # the last along the molecule
    turned = axes[:2] if np.linalg.norm(straight @ axes[:2].T, axis=1).max() < _LINEAR else axes
    moves = [np.broadcast_to(axis, centred.shape) for axis in axes]
    moves += [np.cross(axis, centred) / size for axis in turned]
    weighted = np.stack([(np.sqrt(masses)[:, None] * move).ravel() for move in moves], axis=1)
    return cast(np.ndarray, orth(weighted))


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
