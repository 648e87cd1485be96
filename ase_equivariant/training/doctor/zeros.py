"""Energies of several zeros or units: one kind of structures, and energies in two groups with nothing between."""

from __future__ import annotations

import math
from itertools import permutations
from typing import NamedTuple

import numpy as np

from ase_equivariant.training.doctor.dataset import Dataset, composition_of
from ase_equivariant.training.doctor.finding import Finding
from ase_equivariant.training.doctor.hypotheses import ENERGIES
from ase_equivariant.training.doctor.likeness import nearest

_FEWEST = 5  # frames on either side
# eV/atom, and times the spread on the wider side: thermal energies leave no such gap.
_GAP, _SPREADS = 0.1, 10.0
# Isomers and phases have such gaps, too; but their frames are farther from the other group than from their own.
_APART = 1.5
_RATIO = 3e-3  # logarithm: gaps between zeros of one unit are no factor of two


class _Split(NamedTuple):
    few: list[int]
    many: list[int]
    shift: float  # eV/atom, of the few
    ratio: float


def check_zeros(data: Dataset) -> list[Finding]:
    """Frames whose energies lie far from those of others that are alike and have the same composition."""
    splits = [found for group in data.group(composition_of) if (found := _split(data, group)) is not None]
    if not splits:
        return []
    few, many = (sum(len(getattr(found, side)) for found in splits) for side in ("few", "many"))
    largest = max(splits, key=lambda found: len(found.few))
    message = (
        f"energies of {few} frames lie {largest.shift:+.3g} eV/atom beside those of {many} like structures of the same "
        f"composition, with none between"
    )
    places = data.numbers_of([k for found in splits for k in found.few])
    units = {_units(found.ratio) for found in splits}
    if len(units) == 1 and (unit := units.pop()) is not None:
        message += f", and are {largest.ratio:.4g} times theirs: mixed units, as {unit[0]} among {unit[1]}"
        return [Finding("energies", "error", message, "convert the labels of one kind", places)]
    cure = "another program's or setting's zero? subtract each one's energies of the free atoms, or keep one kind"
    return [Finding("energies", "warning", message, cure, places)]


def _split(data: Dataset, group: list[int]) -> _Split | None:
    labelled = [(frame.energy / len(frame.atoms), k) for k in group if (frame := data.frames[k]).energy is not None]
    if len(labelled) < 2 * _FEWEST or len(data.frames[group[0]].atoms) < 2:
        return None
    labelled.sort()
    energies, places = np.array([e for e, _ in labelled]), [k for _, k in labelled]
    middle = _FEWEST + int(np.diff(energies)[_FEWEST - 1 : -_FEWEST + 1].argmax())
    sides = energies[:middle], energies[middle:]
    gap = sides[1][0] - sides[0][-1]
    if gap < max(_GAP, _SPREADS * max(_spread(side) for side in sides)):
        return None
    lower = 2 * middle <= len(places)
    few, many = (places[:middle], places[middle:])[:: 1 if lower else -1]
    rows, others = data.fingerprints(few), data.fingerprints(many)
    if np.median(nearest(rows, others)[1]) > _APART * np.median(nearest(rows)[1]):
        return None
    low, high = (float(np.median(side)) for side in sides)
    of_few, of_many = (low, high) if lower else (high, low)
    return _Split(few, many, of_few - of_many, of_few / of_many if of_many else 0.0)


def _spread(values: np.ndarray) -> float:
    return float(np.median(np.abs(values - np.median(values))))


def _units(ratio: float) -> tuple[str, str] | None:
    """Which unit's numbers among which other's are so many times as large."""
    for one, other in permutations(ENERGIES, 2):
        if ratio > 0 and abs(math.log(ratio * ENERGIES[one] / ENERGIES[other])) < _RATIO:
            return one, other
    return None
