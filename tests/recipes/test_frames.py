"""Trajectories as arrays."""

import numpy as np
import pytest
from ase import Atoms, units

from ase_equivariant.recipes.frames import check_frames, interval_fs, unwrapped_positions, velocities, without_beginning

CELL = [[6.0, 0, 0], [2.0, 7, 0], [-1.0, 1, 8]]


def walk(rng, frames=60, atoms=5, changing=False):
    """Positions of walkers that leave the cell, and the frames with positions put back into it."""
    steps = rng.normal(scale=0.4, size=(frames, atoms, 3))
    positions = np.cumsum(steps, axis=0)
    made = []
    for k, r in enumerate(positions):
        frame = Atoms(f"Ar{atoms}", positions=r, cell=np.array(CELL) * (1 + 0.001 * k * changing), pbc=True)
        frame.info["time_fs"] = 2.0 * k
        frame.wrap()
        made.append(frame)
    return positions, made


def test_positions_go_on_across_the_boundaries_of_a_skewed_cell():
    positions, frames = walk(np.random.default_rng(0))
    assert np.abs(np.stack([f.positions for f in frames]) - positions).max() > 3  # they did leave the cell
    found = unwrapped_positions(frames)
    np.testing.assert_allclose(found - found[0], positions - positions[0], atol=1e-10)


def test_only_periodic_directions_are_unwrapped():
    frames = [Atoms("Ar", [[0, 0, z]], cell=[4, 4, 4], pbc=[True, True, False]) for z in (0.0, 3.9, 12.0)]
    np.testing.assert_allclose(unwrapped_positions(frames)[:, 0, 2], [0, 3.9, 12.0])


def test_steps_too_long_to_tell_are_refused():
    frames = [Atoms("Ar", [[x, 0, 0]], cell=[4, 4, 4], pbc=True) for x in (0.0, 1.9)]
    with pytest.raises(ValueError, match=r"0\.47 of a lattice vector from frame 0 to frame 1"):
        unwrapped_positions(frames)


def test_interval_of_frames():
    _, frames = walk(np.random.default_rng(1), frames=5)
    assert interval_fs(frames) == pytest.approx(2.0)
    assert interval_fs(frames, 3.0) == 3.0
    with pytest.raises(ValueError, match="2 to 4 fs apart"):
        interval_fs([frames[0], frames[1], frames[3]])
    del frames[2].info["time_fs"]
    with pytest.raises(ValueError, match="do not say their time"):
        interval_fs(frames)
    with pytest.raises(ValueError, match="above 0"):
        interval_fs(frames, -1.0)


def test_velocities_are_per_femtosecond():
    atoms = Atoms("He")
    atoms.set_velocities([[0.02 / units.fs, 0, 0]])
    np.testing.assert_allclose(velocities([atoms]), [[[0.02, 0, 0]]])
    with pytest.raises(ValueError, match="frame 1 has no momenta"):
        velocities([atoms, Atoms("He")])


def test_frames_of_different_atoms_are_refused():
    with pytest.raises(ValueError, match="frame 1 holds Ne"):
        check_frames([Atoms("He"), Atoms("Ne")])
    with pytest.raises(ValueError, match="at least 2"):
        check_frames([Atoms("He")], 2)


def test_a_last_frame_between_two_others_is_left_out():
    """As of a run that ended there."""
    _, frames = walk(np.random.default_rng(1), frames=8)
    assert len(without_beginning(frames, 0.0)) == 8
    frames[-1].info["time_fs"] -= 1.0
    assert interval_fs(without_beginning(frames, 0.0)) == pytest.approx(2.0)
    assert [frame.info["time_fs"] for frame in without_beginning(frames, 0.004)] == [4.0, 6.0, 8.0, 10.0, 12.0]
    for frame in frames:
        del frame.info["time_fs"]
    assert len(without_beginning(frames, 0.0)) == 8


def test_an_endless_beginning_is_refused():
    with pytest.raises(ValueError, match="inf ps are to be left out: give a time"):
        without_beginning([Atoms("H")] * 3, float("inf"))
