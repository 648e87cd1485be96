"""Pairs of nearly equal frames: between them the energy changes by the work of forces and stress.

On a straight path from a to b, with displacements u and strain ε, both ends together give

    E_b − E_a = −½ (F_a + F_b)·u + ½ (V_a σ_a + V_b σ_b):ε,

exactly for a quadratic energy and to third order in u for any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ase_equivariant.training.doctor.robust import robust_fit
from ase_equivariant.training.frames import Frame

# Å: root mean square displacement, strain counted as the displacement of a bond of 2.5 Å. Farther apart the path
# is no longer nearly straight and the energy no longer nearly quadratic.
_FARTHEST = 0.3
_BOND = 2.5
_FEWEST = 10


class Slope(NamedTuple):
    """Energy change over work, and its standard error."""

    value: float
    error: float
    pairs: int

    @property
    def known(self) -> bool:
        """Whether the data decide it: to 15 %, and energy and work have a correlation of 0.8."""
        allowed = min(0.15, 0.75 / max(self.pairs, 1) ** 0.5)
        return self.pairs >= _FEWEST and self.relative_error <= allowed

    @property
    def relative_error(self) -> float:
        """Standard error over the value; infinite for zero."""
        return self.error / abs(self.value) if self.value else np.inf


@dataclass(frozen=True)
class Pairs:
    """P pairs of frames, the nearest first.

    Attributes
    ----------
    first, second : ndarray
        (P,) positions in the list of frames.
    distance : ndarray
        (P,) Å, displacement and strain together.
    energy : ndarray
        (P,) E_b − E_a, eV.
    force_work, stress_work : ndarray
        (P,) eV.
    curvature : ndarray
        (P,) eV, how much the work by one end's labels differs from the work by the other's.
    strain, stress_change : ndarray
        (P, 3, 3), dimensionless and eV/Å³.
    atoms : ndarray
        (P,) number of atoms.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    energy: np.ndarray
    force_work: np.ndarray
    stress_work: np.ndarray
    curvature: np.ndarray
    strain: np.ndarray
    stress_change: np.ndarray
    atoms: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def make_pairs(frames: Sequence[Frame], candidates: Sequence[tuple[int, int]]) -> Pairs:
    """Work and energy between frames with the same atoms in the same order; those too far apart are left out."""
    rows = []
    for i, j in candidates:
        a, b = frames[i], frames[j]
        if a.energy is None or b.energy is None or a.forces is None or b.forces is None:
            continue
        row = _path(a, b)
        if row is not None:
            rows.append((i, j, *row, len(a.atoms)))
    rows.sort(key=lambda row: row[2])
    if not rows:
        empty, tensors = np.zeros(0), np.zeros((0, 3, 3))
        none = np.zeros(0, dtype=int)
        return Pairs(none, none, empty, empty, empty, empty, empty, tensors, tensors, none)
    return Pairs(*(np.array(column) for column in zip(*rows, strict=True)))


def slopes(pairs: Pairs) -> tuple[Slope, Slope]:
    """Energy over the work of forces, and over that of stress: both 1 if labels agree.

    Several windows of the nearest pairs are fitted; few pairs scatter, far ones are not quadratic, so the window
    with the smallest sum of relative error and half its width in Å counts.
    """
    root = np.sqrt(np.maximum(pairs.atoms, 1))
    columns = np.stack([pairs.force_work, pairs.stress_work], axis=1) / root[:, None]
    values = pairs.energy / root
    best = [Slope(0.0, np.inf, 0), Slope(0.0, np.inf, 0)]
    score = [np.inf, np.inf]
    window = _FEWEST
    while window < 2 * len(pairs):
        taken = min(window, len(pairs))
        window *= 2
        if taken < _FEWEST:
            break
        coefficients, errors = robust_fit(columns[:taken], values[:taken])
        for k in range(2):
            slope = Slope(float(coefficients[k]), float(errors[k]), taken)
            if slope.relative_error + pairs.distance[taken - 1] / 2 < score[k]:
                score[k] = slope.relative_error + pairs.distance[taken - 1] / 2
                best[k] = slope
    return best[0], best[1]


def _path(a: Frame, b: Frame) -> tuple[float, float, float, float, float, np.ndarray, np.ndarray] | None:
    strain = change = np.zeros((3, 3))
    by_stress = [0.0, 0.0]
    first, last = np.asarray(a.forces), np.asarray(b.forces)
    gain = float(b.energy or 0.0) - float(a.energy or 0.0)
    if a.atoms.pbc.any():
        cells = a.atoms.cell.complete().array, b.atoms.cell.complete().array
        middle = (cells[0] + cells[1]) / 2
        fractional = b.atoms.positions @ np.linalg.inv(cells[1]) - a.atoms.positions @ np.linalg.inv(cells[0])
        fractional -= np.round(fractional) * a.atoms.pbc
        moved = (fractional - fractional.mean(axis=0)) @ middle
        deformation = np.linalg.inv(middle) @ (cells[1] - cells[0])
        strain = (deformation + deformation.T) / 2
        if np.abs(strain).max() > 1e-7:
            if a.stress is None or b.stress is None:
                return None
            volumes = abs(np.linalg.det(cells[0])), abs(np.linalg.det(cells[1]))
            by_stress = [float((v * f.stress * strain).sum()) for v, f in zip(volumes, (a, b), strict=True)]
            change = b.stress - a.stress
    else:
        turned, rotation = _aligned(a.atoms.positions, b.atoms.positions)
        moved, last = turned, last @ rotation
    distance = float(np.sqrt((moved**2).sum(axis=1).mean() + (_BOND * np.abs(strain).max()) ** 2))
    if not 1e-4 < distance < _FARTHEST:
        return None
    works = -float((first * moved).sum()), -float((last * moved).sum())
    curvature = works[1] - works[0] + by_stress[1] - by_stress[0]
    return distance, gain, sum(works) / 2, sum(by_stress) / 2, curvature, strain, change


def _aligned(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Displacements from a to b, rotated onto a, and that rotation (rows times it; Kabsch 1976)."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    left, _, right = np.linalg.svd(b.T @ a)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ flip @ right
    return b @ rotation - a, rotation
