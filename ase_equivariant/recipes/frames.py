"""Frames of a trajectory as arrays: times, velocities, positions that go on across periodic boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms, FixCartesian, FixScaled

# Of a lattice vector: beyond half of it, a step and the way around cannot be told apart.
_LONGEST_STEP = 0.4
# In a frame's info: kinds of its constraints that extended XYZ has no place for.
OTHER_CONSTRAINTS = "other_constraints"
_TO_PLACES = {"FixAtoms", "FixCartesian", "FixScaled", "FixedLine", "FixedPlane"}  # kinds that tie atoms to them


def check_frames(frames: Sequence[Atoms], at_least: int = 1) -> None:
    """Refuse frames that are no trajectory.

    Raises
    ------
    ValueError
        If there are fewer than ``at_least``, or the atoms differ between frames.
    """
    if len(frames) < at_least:
        raise ValueError(f"{len(frames)} frames: at least {at_least} are needed")
    for k, frame in enumerate(frames):
        if not np.array_equal(frame.numbers, frames[0].numbers):
            raise ValueError(f"frame {k} holds {frame.symbols}, frame 0 {frames[0].symbols}: give frames of one run")


def interval_fs(frames: Sequence[Atoms], given: float | None = None) -> float:
    """Time between frames in fs: as given, or from ``info["time_fs"]``, which our MD writes.

    Raises
    ------
    ValueError
        If it is neither given nor written, not positive, or not the same throughout.
    """
    if given is not None:
        if not given > 0:
            raise ValueError(f"interval = {given} fs: the time between frames is above 0")
        return given
    check_frames(frames, 2)
    times = np.array([frame.info.get("time_fs", np.nan) for frame in frames], dtype=float)
    if np.isnan(times).any():
        raise ValueError("the frames do not say their time (info['time_fs']): give the time between frames in fs")
    steps = np.diff(times)
    if not steps[0] > 0 or np.abs(steps - steps[0]).max() > 1e-3 * steps[0]:
        raise ValueError(f"frames are {steps.min():g} to {steps.max():g} fs apart: give frames at equal intervals")
    return float(steps.mean())


def without_beginning(frames: Sequence[Atoms], discard_ps: float, given_fs: float | None = None) -> list[Atoms]:
    """Frames without those of the first ``discard_ps``; ``given_fs`` apart, or as :func:`interval_fs` finds.

    A last frame that comes too early, of a run that ended between two of them, is left out too.

    Raises
    ------
    ValueError
        If nothing remains, the time between frames is not known, or ``discard_ps`` is not finite.
    """
    if not np.isfinite(discard_ps):
        raise ValueError(f"{discard_ps:g} ps are to be left out: give a time")
    times = [frame.info.get("time_fs", np.nan) for frame in frames]
    if len(frames) > 2 and times[-1] - times[-2] < (1 - 1e-3) * (times[1] - times[0]):
        frames = frames[:-1]
    if discard_ps <= 0:
        return list(frames)
    interval = interval_fs(frames, given_fs)
    remaining = list(frames[round(1000 * discard_ps / interval) :])
    if not remaining:
        raise ValueError(f"nothing remains of {len(frames) * interval / 1000:g} ps without the first {discard_ps:g} ps")
    return remaining


def velocities(frames: Sequence[Atoms]) -> np.ndarray:
    """(frames, N, 3) in Å/fs.

    Raises
    ------
    ValueError
        If a frame has no momenta.
    """
    check_frames(frames)
    missing = next((k for k, frame in enumerate(frames) if not frame.has("momenta")), None)
    if missing is not None:
        raise ValueError(f"frame {missing} has no momenta: write velocities with the trajectory (our MD does)")
    return np.stack([frame.get_velocities() for frame in frames]) * units.fs


def holds_whole_atoms(constraint: Any) -> bool:
    """Whether the constraint holds its atoms in all three directions."""
    partly = isinstance(constraint, FixCartesian | FixScaled)
    return isinstance(constraint, FixAtoms) or (partly and bool(np.all(constraint.mask)))


def constraint_kinds(atoms: Atoms) -> list[str]:
    """Kinds of the constraints, those included that the frame's file had no place for."""
    return [type(constraint).__name__ for constraint in atoms.constraints] + other_constraints(atoms)


def other_constraints(atoms: Atoms) -> list[str]:
    """Kinds of constraints that a frame of our dynamics had, and its file had no place for."""
    return str(atoms.info.get(OTHER_CONSTRAINTS, "")).split()


def fixed_atoms(atoms: Atoms) -> np.ndarray:
    """Whether each atom is held in all three directions, (N,)."""
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in filter(holds_whole_atoms, atoms.constraints):
        fixed[constraint.index] = True
    return fixed


def drifts(atoms: Atoms) -> bool:
    """Whether the centre of mass may go anywhere without a meaning.

    It may not where a constraint ties atoms to places: its motion is then that of the free atoms, as is that of a
    single one.
    """
    return len(atoms) > 1 and _TO_PLACES.isdisjoint(constraint_kinds(atoms))


def unwrapped_positions(frames: Sequence[Atoms]) -> np.ndarray:
    """Positions in Å, (frames, N, 3), as if atoms that left the cell on one side had not come back on the other.

    Displacements between frames are the shortest ones in the later frame's cell, which keeps diffusion right where
    the cell changes.

    Raises
    ------
    ValueError
        If an atom moves so far between frames that its way cannot be told.

    References
    ----------
    von Bülow, Bullerjahn and Hummer, J. Chem. Phys. 153, 021101 (2020).
    """
    check_frames(frames)
    if not frames[0].pbc.any():
        return np.stack([frame.positions for frame in frames])
    pbc = frames[0].pbc
    result = np.empty((len(frames), len(frames[0]), 3))
    result[0] = frames[0].positions
    before = _wrapped(frames[0])
    for k in range(1, len(frames)):
        cell = frames[k].cell.complete()
        now = _wrapped(frames[k])
        steps = cell.scaled_positions(now - before)
        steps[:, pbc] -= np.rint(steps[:, pbc])
        longest = np.abs(steps[:, pbc]).max(initial=0.0)
        if longest > _LONGEST_STEP:
            raise ValueError(
                f"an atom moves by {longest:.2f} of a lattice vector from frame {k - 1} to frame {k}: "
                "its way cannot be told, give frames at shorter intervals"
            )
        result[k] = result[k - 1] + cell.cartesian_positions(steps)
        before = now
    return result


def _wrapped(frame: Atoms) -> np.ndarray:
    cell = frame.cell.complete()
    fractional = cell.scaled_positions(frame.positions)
    fractional[:, frame.pbc] %= 1.0
    return cell.cartesian_positions(fractional)
