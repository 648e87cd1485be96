"""Frames as the checks see them: what several checks need is computed once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from ase_equivariant.training.doctor.geometry import ASYMMETRIC, Geometry, geometry_of
from ase_equivariant.training.doctor.likeness import nearest
from ase_equivariant.training.doctor.pairs import Pairs, Slope, make_pairs, slopes
from ase_equivariant.training.frames import Frame

_LABELS = ("energy", "forces", "stress")


class Dataset:
    """Labelled frames of one part.

    Frames with positions or cells that are not finite are put aside, labels that are not finite are dropped;
    ``broken`` says which. Every other attribute speaks of the frames that remain.

    Parameters
    ----------
    frames : sequence of Frame
        As read, possibly with NaN.
    units, length : str
        The units of energy and length the files were read with.

    Attributes
    ----------
    frames : list of Frame
        Those that can be looked at.
    index : ndarray
        (S,) their numbers in the files.
    broken : dict of str to list of int
        Numbers of frames by what is not finite in them: "positions", "energy", "forces", "stress" or a read-out's name.
    total : int
        Number of frames read.
    """

    def __init__(self, frames: Sequence[Frame], units: str = "eV", length: str = "Angstrom") -> None:
        self.units, self.length, self.total = units, length, len(frames)
        self.broken: dict[str, list[int]] = defaultdict(list)
        kept: list[Frame] = []
        index: list[int] = []
        for k, frame in enumerate(frames):
            if not (np.isfinite(frame.atoms.positions).all() and np.isfinite(frame.atoms.cell.array).all()):
                self.broken["positions"].append(k)
                continue
            wrong = _not_finite(frame)
            for name in wrong:
                self.broken[name].append(k)
            kept.append(_without(frame, wrong))
            index.append(k)
        self.frames, self.index = kept, np.array(index, dtype=int)

    def __len__(self) -> int:
        return len(self.frames)

    def numbers_of(self, positions: Sequence[int] | np.ndarray) -> tuple[int, ...]:
        """Numbers in the files of the frames at these places of ``frames``, ascending."""
        return tuple(sorted(int(k) for k in self.index[np.asarray(positions, dtype=int)]))

    def group(self, key: Callable[[Frame], Hashable]) -> list[list[int]]:
        """Places of frames that have the same key, groups in order of appearance."""
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for k, frame in enumerate(self.frames):
            groups[key(frame)].append(k)
        return list(groups.values())

    @cached_property
    def geometry(self) -> list[Geometry]:
        """Neighbourhoods of every frame."""
        return [geometry_of(frame.atoms) for frame in self.frames]

    def fingerprints(self, places: Sequence[int]) -> np.ndarray:
        """(len(places), D) fingerprints of frames of one composition."""
        return np.array([self.geometry[k].fingerprint for k in places])

    def differ(self, places: Sequence[int]) -> bool:
        """Whether frames are different structures by more than rounding, 0.01 Å in some distance of neighbours."""
        first = self.geometry[places[0]].fingerprint
        others = (self.geometry[k].fingerprint for k in places[1:])
        return any(len(other) != len(first) or np.abs(other - first).max() > 0.01 for other in others)

    @cached_property
    def pairs(self) -> Pairs:
        """Frames that follow each other and frames nearest to each other, where atoms keep their order."""
        candidates: set[tuple[int, int]] = set()
        for group in self.group(lambda frame: (frame.atoms.numbers.tobytes(), frame.atoms.pbc.tobytes())):
            if len(group) < 2 or len(self.frames[group[0]].atoms) < 2:
                continue
            candidates.update(pairwise(group))
            others, _ = nearest(self.fingerprints(group))
            candidates.update((min(i, j), max(i, j)) for i, j in zip(group, np.array(group)[others], strict=True))
        usable = np.array([self._has_true_forces(k) for k in range(len(self))])
        return make_pairs(self.frames, [(int(i), int(j)) for i, j in sorted(candidates) if usable[i] and usable[j]])

    def _has_true_forces(self, place: int) -> bool:
        """Whether forces are there, and not zeros where symmetry forbids none."""
        forces = self.frames[place].forces
        return forces is not None and bool(forces.any() or self.geometry[place].asymmetry.max() < ASYMMETRIC)

    @cached_property
    def slopes(self) -> tuple[Slope, Slope]:
        """Energy change over the work of forces, and of stress."""
        return slopes(self.pairs)

    @cached_property
    def slope_times_atoms(self) -> Slope:
        """That of forces if energies are multiplied by the numbers of atoms."""
        return slopes(replace(self.pairs, energy=self.pairs.energy * self.pairs.atoms))[0]

    @property
    def stress_is_against_energies(self) -> bool:
        """Whether energies change against the work of forces and of stress: the energies may be what is negated."""
        force, stress = self.slopes
        return force.known and stress.known and max(force.value, stress.value) < 0


def _not_finite(frame: Frame) -> list[str]:
    """Labels with NaN or infinity."""
    labels: dict[str, float | np.ndarray | None] = {name: getattr(frame, name) for name in _LABELS}
    labels |= {name: label.values for name, label in frame.readouts.items()}
    return [name for name, value in labels.items() if value is not None and not np.isfinite(value).all()]


def _without(frame: Frame, labels: Sequence[str]) -> Frame:
    energy, forces, stress = (None if name in labels else getattr(frame, name) for name in _LABELS)
    readouts = {name: label for name, label in frame.readouts.items() if name not in labels}
    return Frame(frame.atoms, energy, forces, stress, readouts)


def composition_of(frame: Frame) -> Hashable:
    """Sorted atomic numbers and periodic directions: frames that differ in it are no copies."""
    return np.sort(frame.atoms.numbers).tobytes(), int(frame.atoms.pbc.sum())
