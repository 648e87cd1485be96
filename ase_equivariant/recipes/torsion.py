"""Torsion scans: energy against a dihedral angle, everything else relaxed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixInternals

from ase_equivariant.recipes.bonds import beyond_bond
from ase_equivariant.recipes.frames import fixed_atoms
from ase_equivariant.recipes.relax import relax

_IN_LINE = 0.03  # sine of the angle: 2°


@dataclass(frozen=True)
class TorsionScan:
    """Energy along a dihedral angle.

    Attributes
    ----------
    indices : tuple of 4 int
        Of the dihedral.
    angles_deg : ndarray
        (n,) in degrees, 180 is trans.
    energies_eV : ndarray
        (n,) above the lowest of the scan.
    lowest_eV : float
        That one.
    barrier_eV : float
        Between the lowest and the highest point.
    converged : ndarray
        (n,) whether the rest was relaxed.
    frames : list of Atoms
        The structures, with their energies.
    """

    indices: tuple[int, int, int, int]
    angles_deg: np.ndarray
    energies_eV: np.ndarray
    lowest_eV: float
    barrier_eV: float
    converged: np.ndarray
    frames: list[Atoms]


def torsion_scan(
    atoms: Atoms,
    indices: Sequence[int],
    angles_deg: Sequence[float] | np.ndarray | None = None,
    *,
    fmax: float = 0.01,
    steps: int = 200,
) -> TorsionScan:
    """Relax a molecule at fixed values of one dihedral angle.

    Every point starts from the relaxed structure, its end turned about the bond: no point depends on another.

    Parameters
    ----------
    atoms : Atoms
        Relaxed, with a calculator; not changed.
    indices : sequence of 4 int
        Atoms a–b–c–d; the side of c turns about b–c.
    angles_deg : sequence of float, optional
        Default every 15° from 0° to 360°.
    fmax, steps : float, int
        eV/Å and number of steps of each relaxation.

    Raises
    ------
    ValueError
        If the four atoms are no dihedral, its bond is in a ring, three of them come to lie in line, or a constraint
        holds one of them or an atom that turns.
    """
    if atoms.calc is None:
        raise ValueError("the atoms have no calculator: set atoms.calc first")
    (a, b, c, d), turning = turning_atoms(atoms, indices)
    angles = np.arange(0.0, 361.0, 15.0) if angles_deg is None else np.asarray(angles_deg, dtype=float)
    energies, converged, frames = [], [], []
    for angle in angles:
        trial = atoms.copy()
        trial.calc = atoms.calc
        trial.set_dihedral(a, b, c, d, angle, indices=turning)
        trial.set_constraint([*atoms.constraints, FixInternals(dihedrals_deg=[[angle, [a, b, c, d]]], epsilon=1e-7)])
        try:
            result = relax(trial, fmax=fmax, steps=steps)
        except ZeroDivisionError:  # of ASE's constraint
            raise ValueError(f"at {angle:g}° three of {(a, b, c, d)} come to lie in line: scan another one") from None
        energies.append(result.energy_after_eV)
        converged.append(result.converged)
        trial.calc = SinglePointCalculator(trial, energy=result.energy_after_eV)
        trial.set_constraint(atoms.constraints)
        frames.append(trial)
    lowest, highest = min(energies), max(energies)
    return TorsionScan(
        (a, b, c, d), angles, np.array(energies) - lowest, lowest, highest - lowest, np.array(converged), frames
    )


def turning_atoms(atoms: Atoms, indices: Sequence[int]) -> tuple[tuple[int, int, int, int], list[int]]:
    """The four atoms a–b–c–d of a dihedral, and those on c's side of its bond, which turn.

    Raises
    ------
    ValueError
        If they are no dihedral, its bond is in a ring, three of them are in line, or a constraint holds
        one of them or an atom that turns.
    """
    quartet = tuple(int(k) for k in indices)
    if len(quartet) != 4 or len(set(quartet)) < 4 or not all(0 <= k < len(atoms) for k in quartet):
        raise ValueError(f"{quartet}: a dihedral is four different atoms of 0 to {len(atoms) - 1}")
    a, b, c, d = quartet
    turning = beyond_bond(atoms, b, c)
    if d not in turning or a in turning:
        raise ValueError(f"{quartet}: give atoms along the chain, the first on {b}'s side and the last on {c}'s")
    for three in ((a, b, c), (b, c, d)):
        if abs(np.sin(np.radians(atoms.get_angle(*three)))) < _IN_LINE:
            raise ValueError(f"atoms {three} are in line, where there is no dihedral: choose others")
    # ASE turns atoms whatever holds them, and keeps the angle by moving the four.
    fixed = fixed_atoms(atoms)
    held = [k for k in sorted({*turning, *quartet}) if fixed[k]]
    if held:
        raise ValueError(
            f"{quartet}: atom {held[0]} is held by a constraint and would be moved: remove the constraint"
            + ("" if held[0] in quartet else f", or turn the other end, {quartet[::-1]}")
        )
    return (a, b, c, d), turning
