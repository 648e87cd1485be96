"""The stiffness of X-H bonds, which the unit of the forces scales and chemistry hardly changes."""

from __future__ import annotations

import numpy as np

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.robust import robust_fit

# eV/Å², k = μ (2πcν)² of the stretching vibrations near 2950, 3400 and 3700 cm⁻¹.
_STIFFNESS = {6: 30.0, 7: 40.0, 8: 47.0}
_LENGTHS = (0.9, 1.25)  # Å: bonds that are neither crushed nor about to break
_FEWEST = 30
# Least ratio of the slopes of force on length and the other way, the square of their correlation.
_AGREEMENT = 0.6


def bond_stiffness(data: Dataset) -> float | None:
    """How many times stiffer C-H, N-H and O-H bonds are than they should be; None if there are too few.

    The force on a hydrogen along its only bond is ``−k (r − r₀)``: k is the slope over all bonds of a kind. The
    heavier atom's other bonds, hydrogen bonds and spread of r₀ change it by less than a factor of two.
    """
    lengths: dict[int, list[np.ndarray]] = {element: [] for element in _STIFFNESS}
    forces: dict[int, list[np.ndarray]] = {element: [] for element in _STIFFNESS}
    for frame, geometry in zip(data.frames, data.geometry, strict=True):
        if frame.forces is None:
            continue
        numbers = frame.atoms.numbers
        for element in _STIFFNESS:
            bonded = (numbers == 1) & (geometry.neighbor >= 0) & (numbers[geometry.neighbor] == element)
            bonded &= (geometry.nearest > _LENGTHS[0]) & (geometry.nearest < _LENGTHS[1])
            if bonded.any():
                lengths[element].append(geometry.nearest[bonded])
                # the direction points to the heavy atom: this is the force that shortens the bond
                forces[element].append((frame.forces[bonded] * geometry.direction[bonded]).sum(axis=1))
    ratios = []
    for element, expected in _STIFFNESS.items():
        if sum(map(len, lengths[element])) < _FEWEST:
            continue
        x, y = np.concatenate(lengths[element]), np.concatenate(forces[element])
        if x.std() < 0.003 or not y.any():
            continue
        # Other forces scatter y, chemistry scatters r₀ and with it x: the truth is between the two regressions.
        low, high = _slope(x, y), 1 / _slope(y, x)
        if low / high > _AGREEMENT:
            ratios.append(np.sign(low) * np.sqrt(low * high) / expected)
    return float(np.median(ratios)) if ratios else None


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    (slope, _), _ = robust_fit(np.stack([x - x.mean(), np.ones_like(x)], axis=1), y)
    return float(slope) or 1e-12
