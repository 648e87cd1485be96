"""Copies: frames that are there twice, in one part or in both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np

from ase_equivariant.training.doctor.dataset import Dataset, composition_of
from ase_equivariant.training.doctor.finding import Finding, Severity, count
from ase_equivariant.training.doctor.geometry import REACH, all_distances
from ase_equivariant.training.doctor.likeness import NEAR, NEARLY, SAME, near_limit, nearest, same_pairs, usual_distance
from ase_equivariant.training.frames import Frame

_SAME_ENERGY = 1e-3  # eV/atom
_SAME_FORCE = 0.1  # eV/Å; rounding to ``SAME`` moves the force along a stiff bond by 0.05
_NEAR_SHARE = 0.05
_REMEMBERED = 512  # frames whose distances are kept at a time


def check_duplicates(data: Dataset) -> list[Finding]:
    """Structures that occur more than once, rotated, shifted or permuted too, and copies whose labels differ."""
    same: set[int] = set()
    differ: set[int] = set()
    exact = 0
    distances = distances_of(data)
    for group in data.group(composition_of):
        if len(group) < 2 or len(data.frames[group[0]].atoms) < 2:
            continue
        for i, j in same_pairs(data.fingerprints(group)):
            a, b = data.frames[group[i]], data.frames[group[j]]
            if group[i] in same and group[j] in same:  # both are known for copies of an earlier one
                exact += _is_unmoved(a, b)
                continue
            if not (agree(distances(group[i]), distances(group[j])) and _is_copy(a, b)):
                continue
            same.add(group[j])
            exact += _is_unmoved(a, b)
            if _labels_differ(a, b):
                differ.update((group[i], group[j]))
    findings = []
    if same:
        message = f"{count(len(same), 'frame is a copy', 'frames are copies')} of an earlier one"
        message += "" if exact else ", rotated, shifted or permuted"
        severity: Severity = "note" if all(data.geometry[k].ideal for k in same) else "warning"
        cure = "remove them, or a random split tests on them"
        findings.append(Finding("duplicates", severity, message, cure, data.numbers_of(sorted(same))))
    if differ:
        message = f"{count(len(differ), 'frame')} of the same structure have different labels"
        cure = "calculations of different settings, states or charges in one file? keep one of them"
        findings.append(Finding("duplicates", "error", message, cure, data.numbers_of(sorted(differ))))
    return findings


def check_overlap(train: Dataset, test: Dataset) -> list[Finding]:
    """Test structures that are in the training part, or nearly."""
    copies: set[int] = set()
    nearly: set[int] = set()
    ratios: list[np.ndarray] = []
    distances: list[np.ndarray] = []
    places: list[int] = []
    of_test, of_train = distances_of(test), distances_of(train)
    known = {key: group for group in train.group(composition_of) for key in [composition_of(train.frames[group[0]])]}
    for group in test.group(composition_of):
        own = known.get(composition_of(test.frames[group[0]]))
        if own is None or len(test.frames[group[0]].atoms) < 2:
            continue
        a, b = test.fingerprints(group), train.fingerprints(own)
        found: set[int] = set()
        for i, j in ((group[i], own[j]) for i, j in same_pairs(a, b)):
            if i not in found and agree(of_test(i), of_train(j)) and _is_copy(test.frames[i], train.frames[j]):
                found.add(i)
        copies |= found
        others = [row for row, k in enumerate(group) if k not in found]
        if not others:
            continue
        neighbors, closest = nearest(a[others], b)
        if len(own) > 1:
            usual = usual_distance(b)
            distances.append(closest)
            ratios.append(closest / usual if usual > 0 else np.full(len(others), np.inf))
            places += [group[row] for row in others]
            limit = near_limit(usual, len(others) * len(own), len(test.frames[group[0]].atoms))
            for row in np.flatnonzero(closest < limit):
                i, j = group[others[row]], own[neighbors[row]]
                if not test.geometry[i].ideal and agree(of_test(i), of_train(j), 4 * NEARLY):
                    nearly.add(i)
    findings = _shared(test, copies)
    if ratios:
        findings.append(_nearness(test, np.array(places), np.concatenate(ratios), np.concatenate(distances), nearly))
    elif not copies:
        findings.append(Finding("overlap", "note", "no composition is in both parts", part="test"))
    return findings


def _shared(test: Dataset, copies: set[int]) -> list[Finding]:
    """A strained ideal crystal may come twice by itself, a snapshot of disorder does not."""
    findings = []
    ideal = {k for k in copies if test.geometry[k].ideal}
    if copies - ideal:
        message = f"{count(len(copies - ideal), 'test frame is', 'test frames are')} in the training data too"
        cure = "remove them from one part: errors on them say nothing"
        findings.append(Finding("overlap", "error", message, cure, test.numbers_of(sorted(copies - ideal)), "test"))
    if ideal:
        message = f"{count(len(ideal), 'ideal crystal')} of the test part, also rotated, in the training data too"
        cure = "errors on them say nothing"
        findings.append(Finding("overlap", "warning", message, cure, test.numbers_of(sorted(ideal)), "test"))
    return findings


def _nearness(
    test: Dataset, places: np.ndarray, ratios: np.ndarray, distances: np.ndarray, nearly: set[int]
) -> Finding:
    """What the distances are; a warning if many test frames are near, or if some (``nearly``) are copies with noise."""
    low, middle, high = np.quantile(distances, (0.05, 0.5, 0.95))
    says = (
        f"nearest training frame: 5 %, 50 % and 95 % of the test frames are within {low:.2g}, {middle:.2g} and "
        f"{high:.2g} Å (sorted distances, root mean square), {np.median(ratios):.2f} of the usual distance"
    )
    share = float((ratios < NEAR).mean())
    cure = "neighbours of one trajectory in both parts? split by trajectory or by blocks of time"
    if share >= _NEAR_SHARE:
        message = f"{100 * share:.0f} % of the test frames are nearly training frames; {says}"
        return Finding("overlap", "warning", message, cure, test.numbers_of(places[ratios < NEAR]), "test")
    if nearly:
        several = count(len(nearly), "test frame is", "test frames are")
        message = f"{several} within {NEARLY} Å of training frames; {says}"
        cure = f"copies with noise, or {cure}"
        return Finding("overlap", "warning", message, cure, test.numbers_of(sorted(nearly)), "test")
    return Finding("overlap", "note", says, part="test")


def distances_of(data: Dataset) -> Callable[[int], np.ndarray]:
    """All distances of a frame by its place; a structure that comes many times is looked at once."""
    return lru_cache(_REMEMBERED)(lambda place: all_distances(data.frames[place].atoms))


def agree(a: np.ndarray, b: np.ndarray, tolerance: float = 2 * SAME) -> bool:
    """Whether all distances agree, not only the eight of fingerprints, which are one for fcc and hcp crystals."""
    common = min(a.shape[-1], b.shape[-1])
    # A distance at the edge may be in one list only; what is missing in the other is beyond.
    rest = (REACH - array[..., common:].min(initial=REACH) for array in (a, b))
    return max(np.abs(a[..., :common] - b[..., :common]).max(initial=0.0), *rest) < tolerance


def _is_copy(a: Frame, b: Frame) -> bool:
    """Distances of neighbours agree already; what they do not see is compared here: far pairs, and the cell."""
    if a.atoms.pbc.any():
        if not a.atoms.pbc.all():
            return True
        volumes = a.atoms.get_volume(), b.atoms.get_volume()
        return abs(volumes[0] - volumes[1]) < 1e-5 * volumes[0]
    far = (np.sort(frame.atoms.get_all_distances(), axis=None) for frame in (a, b))
    return bool(np.abs(np.subtract(*far)).max() < 2 * SAME)


def _is_unmoved(a: Frame, b: Frame) -> bool:
    same = np.array_equal(a.atoms.numbers, b.atoms.numbers)
    return same and bool(np.abs(a.atoms.positions - b.atoms.positions).max() < SAME)


def _labels_differ(a: Frame, b: Frame) -> bool:
    if a.energy is not None and b.energy is not None and abs(a.energy - b.energy) > _SAME_ENERGY * len(a.atoms):
        return True
    if a.forces is None or b.forces is None:
        return False
    sizes: Iterable[np.ndarray] = (np.sort(np.linalg.norm(f, axis=1)) for f in (a.forces, b.forces))
    return bool(np.abs(np.subtract(*sizes)).max() > _SAME_FORCE)
