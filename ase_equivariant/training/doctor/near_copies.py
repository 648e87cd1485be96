"""Near copies: frames of one part that differ by noise, or by a step of a trajectory."""

from __future__ import annotations

import numpy as np

from ase_equivariant.training.doctor.copies import agree, distances_of
from ase_equivariant.training.doctor.dataset import Dataset, composition_of
from ase_equivariant.training.doctor.finding import Finding, count
from ase_equivariant.training.doctor.likeness import NEARLY, SAME, near_limit, nearest, usual_distance
from ase_equivariant.training.frames import Frame

_SAME_ENERGY = 1e-5  # eV; computed anew, frames 0.001 Å apart differ by more


def check_near_duplicates(data: Dataset) -> list[Finding]:
    """Structures that are much nearer to an earlier one than frames usually are, and no copies.

    With the other's energy they are it with noise; with one of their own, steps of a trajectory or a relaxation, or
    small displacements of a crystal, which are only noted.
    """
    noisy: set[int] = set()
    steps: set[int] = set()
    distances = distances_of(data)
    for group in data.group(composition_of):
        if len(group) < 3 or len(data.frames[group[0]].atoms) < 2:
            continue
        rows = data.fingerprints(group)
        neighbors, closest = nearest(rows)
        limit = near_limit(usual_distance(rows), len(group) ** 2 // 2, len(data.frames[group[0]].atoms))
        for row in np.flatnonzero(closest < limit):
            first, last = sorted((group[row], group[neighbors[row]]))
            if last in noisy or last in steps or data.geometry[last].ideal:
                continue
            if np.abs(rows[row] - rows[neighbors[row]]).max() <= SAME:
                continue  # copies, or crystals that differ beyond eight neighbours
            if agree(distances(first), distances(last), 4 * NEARLY):
                (noisy if _have_one_energy(data.frames[first], data.frames[last]) else steps).add(last)
    findings = []
    if noisy:
        several = count(len(noisy), "frame is", "frames are")
        message = f"{several} within {NEARLY} Å of an earlier one and {'has' if len(noisy) == 1 else 'have'} its energy"
        cure = "copies with noise or fewer decimals? remove them, or a random split tests on them"
        findings.append(Finding("duplicates", "warning", message, cure, data.numbers_of(sorted(noisy))))
    if steps:
        message = f"{count(len(steps), 'frame is', 'frames are')} within {NEARLY} Å of an earlier one"
        cure = "steps of a trajectory or relaxation, small displacements? a random split tests on them"
        findings.append(Finding("duplicates", "note", message, cure, data.numbers_of(sorted(steps))))
    return findings


def _have_one_energy(a: Frame, b: Frame) -> bool:
    return a.energy is not None and b.energy is not None and abs(a.energy - b.energy) < _SAME_ENERGY
