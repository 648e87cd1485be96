"""Derivatives of the energy by differences of energies. Needs ASE and numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Weights of f(x + k·h) − f(x − k·h), k = 1, 2 …, in central differences; that of order 6 is wrong by h⁶ f⁽⁷⁾/140.
_ORDER_4, _ORDER_6 = (2 / 3, -1 / 12), (3 / 4, -3 / 20, 1 / 60)
VOIGT_NAMES = ("xx", "yy", "zz", "yz", "xz", "xy")
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


class Model(NamedTuple):
    """A model by what is asked of it; stress as (6,) Voigt components."""

    energy: Callable[[Atoms], float]
    forces: Callable[[Atoms], Floats]
    stress: Callable[[Atoms], Floats]


class Check(NamedTuple):
    """A derivative: ``value`` should be ``dE(displaced(x))/dx / size``; ``scale`` is the largest of its kind."""

    name: str
    value: float
    displaced: Callable[[float], Atoms]
    size: float
    scale: float


class Expected(NamedTuple):
    """Derivatives by differences, and what may be between them and those of a calculator."""

    values: Floats
    allowed: float

    @property
    def relative(self) -> float:
        """What is allowed of the largest component."""
        return self.allowed / max(float(np.abs(self.values).max()), 1e-300)


def require_atoms(structure: object) -> None:
    """Say it if these are no atoms.

    Raises
    ------
    ValueError
        If it is something else than Atoms, or there are none.
    """
    if not isinstance(structure, Atoms):
        found = f"{structure!r:.60} ({type(structure).__name__})"
        raise ValueError(f"the structure should be ase.Atoms, it is {found}: files are read by ase.io.read")
    if not len(structure):
        raise ValueError("the structure has no atoms")


def force_checks(ask: Model, atoms: Atoms, count: int | None, rng: np.random.Generator) -> Iterator[Check]:
    """Of ``count`` random components of the forces, or of all."""
    forces = ask.forces(atoms)
    for atom, axis in _choose([(i, k) for i in range(len(atoms)) for k in range(3)], count, rng):
        name = f"force {'xyz'[axis]} (eV/Å) on atom {atom} ({atoms.symbols[atom]})"
        # F = −dE/dx: the size is −1.
        yield Check(name, forces[atom, axis], partial(moved, atoms, atom, axis), -1.0, np.abs(forces).max())


def stress_checks(ask: Model, atoms: Atoms, count: int | None, rng: np.random.Generator) -> Iterator[Check]:
    """Of ``count`` random components of the stress, or of all; none if the cell has no volume."""
    if not atoms.cell.volume > 1e-8 * atoms.cell.lengths().prod():
        return
    stress = ask.stress(atoms)
    for component in _choose(list(range(6)), count, rng):
        name = f"stress {VOIGT_NAMES[component]} (eV/Å³)"
        displaced = partial(strained, atoms, *VOIGT[component])
        yield Check(name, stress[component], displaced, atoms.get_volume(), np.abs(stress).max())


def difference_quotient(energy: Callable[[Atoms], float], displaced: Callable[[float], Atoms], step: float) -> float:
    """dE(displaced(x))/dx at 0 by a central difference of order 6."""
    return quotient_and_doubt(energy, displaced, step)[0]


def quotient_and_doubt(
    energy: Callable[[Atoms], float], displaced: Callable[[float], Atoms], step: float
) -> tuple[float, float]:
    """The same, and what that of order 4 differs from it: rounding, or an energy that is not smooth."""
    changes = [energy(displaced(k * step)) - energy(displaced(-k * step)) for k in range(1, len(_ORDER_6) + 1)]
    best, other = (
        sum(weight * change for weight, change in zip(weights, changes, strict=False)) / step
        for weights in (_ORDER_6, _ORDER_4)
    )
    return best, abs(best - other)


def _choose(candidates: Sequence[Any], count: int | None, rng: np.random.Generator) -> list[Any]:
    if count is None or count >= len(candidates):
        return list(candidates)
    return [candidates[k] for k in rng.choice(len(candidates), size=count, replace=False)]


def moved(atoms: Atoms, atom: int, axis: int, distance: float) -> Atoms:
    """A copy with one coordinate changed by ``distance`` (Å)."""
    result = _free(atoms)
    result.positions[atom, axis] += distance
    return result


def moved_along(atoms: Atoms, directions: Floats, distance: float) -> Atoms:
    """A copy with all atoms moved by ``distance`` (Å) times ``directions`` (N, 3)."""
    result = _free(atoms)
    result.positions += distance * directions
    return result


def strained(atoms: Atoms, a: int, b: int, strain: float) -> Atoms:
    """Atoms and cell under ε_ab = ε_ba = strain (half of it if a ≠ b), so that dE/dstrain = V σ_ab."""
    deformation = np.eye(3)
    deformation[a, b] += strain / 2
    deformation[b, a] += strain / 2
    result = _free(atoms)
    result.positions = atoms.positions @ deformation
    result.cell = atoms.cell.array @ deformation
    return result


def _free(atoms: Atoms) -> Atoms:
    """A copy with all that the energy may depend on (notes, charges, magnetic moments, tags), without constraints."""
    result = atoms.copy()
    result.set_constraint()
    return result
