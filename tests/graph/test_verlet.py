"""Reused neighbor lists: the same edges as a fresh list, bit by bit, along any trajectory."""

from __future__ import annotations

import contextlib
import copy
import pickle

import numpy as np
import pytest
from brute_force import brute_force
from hypothesis import given, settings
from hypothesis import strategies as st
from structures import CUTOFF, structures

from ase_equivariant.graph import neighbors
from ase_equivariant.graph.neighbors import VerletList, neighbor_list


def assert_current(verlet, positions, cell, pbc):
    """An update equals a fresh list bitwise: pairs, order, vectors."""
    edge_index, vectors = verlet.update(positions, cell, pbc)
    fresh_index, fresh_vectors, _ = neighbor_list(positions, cell, pbc, verlet.cutoff)
    np.testing.assert_array_equal(edge_index, fresh_index)
    np.testing.assert_array_equal(vectors, fresh_vectors)
    assert verlet.statistics.num_edges == edge_index.shape[1] <= verlet.statistics.num_candidates


def deformed(rng, positions, cell, strain, step):
    """A random strain of cell and atoms, then a random displacement of every atom by at most √3·step."""
    deformation = np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))
    return positions @ deformation + step * rng.uniform(-1, 1, positions.shape), cell @ deformation


@contextlib.contextmanager
def shortcuts_of_small_molecules(enabled):
    """Without them, small molecules go the way of large ones."""
    with pytest.MonkeyPatch.context() as patch:
        if not enabled:
            patch.setattr(neighbors, "_ALL_PAIRS_ATOMS", 0)
            patch.setattr(neighbors, "_STATIC_ATOMS", 0)
        yield


@settings(deadline=None, derandomize=True, max_examples=250)
@given(
    structures(),
    st.booleans(),
    st.sampled_from([0.0, 0.002, 0.02]),
    st.sampled_from([0.01, 0.05, 0.2]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_trajectory_with_changing_cell(structure, shortcuts, strain, step, skin, seed):
    """Atoms and cell move at constant strain rate or none; sometimes atoms jump by lattice vectors."""
    rng = np.random.default_rng(seed)
    positions, cell, pbc = structure.positions, structure.cell, structure.pbc
    verlet = VerletList(CUTOFF, skin)
    for _ in range(8):
        with shortcuts_of_small_molecules(shortcuts):
            assert_current(verlet, positions, cell, pbc)
        positions, cell = deformed(rng, positions, cell, strain, step)
        if rng.random() < 0.2:
            positions = positions + (rng.integers(-1, 2, positions.shape) * pbc) @ cell
        if rng.random() < 0.3:  # vectors of non-periodic directions mean nothing
            cell = np.where(pbc[:, None], cell, rng.normal(size=(3, 3)))
    edge_index, _ = verlet.update(positions, cell, pbc)
    assert edge_index.shape[1] == len(brute_force(positions, cell, pbc, CUTOFF))
    assert skin > 0 or verlet.statistics.reuses == 0


@settings(deadline=None, derandomize=True, max_examples=400)
@given(structures(), st.sampled_from([0.5, 0.9, 0.999, 1.001, 1.5, 2.0]), st.integers(0, 2**32 - 1))
def test_no_pair_is_missed_when_the_skin_is_used_up(structure, fraction, seed):
    """Strain and displacements along one axis bring atoms together as far as the rule allows, and farther."""
    rng = np.random.default_rng(seed)
    positions, cell, pbc, skin = structure.positions, structure.cell, structure.pbc, 0.8
    with shortcuts_of_small_molecules(False):
        verlet = VerletList(CUTOFF, skin)
        verlet.update(positions, cell, pbc)
        shrink = 1 - rng.random() * min(fraction, 1) * skin / (CUTOFF + skin)
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        # Where no lattice vector points, nothing tells strain from displacement: project it onto the lattice vectors.
        onto_lattice = np.linalg.pinv(cell[pbc]) @ cell[pbc]
        deformation = np.eye(3) - (1 - shrink) * onto_lattice @ np.outer(axis, axis)
        kick = fraction * (shrink * (CUTOFF + skin) - CUTOFF) / 2 * axis
        positions = positions @ deformation + rng.choice([-1, 1], (len(positions), 1)) * kick
        assert_current(verlet, positions, cell @ deformation, pbc)
    assert fraction > 1 or verlet.statistics.reuses == 1


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(("move", "reuses"), [(0.499, 1), (0.505, 0)])
def test_two_atoms_from_outside_the_skin(periodic, move, reuses):
    """Both move towards each other: 4.001 Å apart is not stored, and 2.991 Å is an edge."""
    positions = np.array([[0.0, 0, 0], [4.001, 0, 0]])
    if periodic:
        positions = 10 - positions  # the nearest image is across the boundary
    inward = np.array([[move, 0, 0], [-move, 0, 0]]) * (-1 if periodic else 1)
    verlet = VerletList(3.0, 1.0)
    with shortcuts_of_small_molecules(False):
        verlet.update(positions, 10 * np.eye(3), periodic)
        assert verlet.statistics.num_candidates == 0
        assert_current(verlet, positions + inward, 10 * np.eye(3), periodic)
    assert verlet.statistics.reuses == reuses
    assert verlet.statistics.num_edges == (0 if reuses else 2)


@pytest.fixture
def slab():
    rng = np.random.default_rng(0)
    cell = np.array([[7.0, 0, 0], [2, 6, 0], [0, 0, 0]])
    return rng.random((40, 3)) @ np.array([[7.0, 0, 0], [2, 6, 0], [0, 0, 9]]), cell, np.array([True, True, False])


def test_small_motion_and_strain_reuse_the_list(slab):
    positions, cell, pbc = slab
    verlet = VerletList(4.0, 1.0)
    rng = np.random.default_rng(1)
    for _ in range(10):
        assert_current(verlet, positions, cell, pbc)
        positions, cell = deformed(rng, positions, cell, 0.001, 0.02)
    assert (verlet.statistics.builds, verlet.statistics.reuses) == (1, 9)


def test_volume_change_of_an_isotropic_cell_reuses_until_the_skin_is_used_up():
    """σ_min (cutoff + skin) ≥ cutoff with no displacement: shrinking by 20 % exhausts 4 + 1 Å."""
    positions, cell = np.random.default_rng(2).random((20, 3)) * 8, 8 * np.eye(3)
    for scale, reuses in [(0.801, 1), (0.799, 0), (1.5, 1)]:
        verlet = VerletList(4.0, 1.0)
        verlet.update(positions, cell, True)
        assert_current(verlet, scale * positions, scale * cell, True)
        assert verlet.statistics.reuses == reuses


def test_rotation_of_a_crystal_reuses_the_list():
    positions, cell = np.random.default_rng(3).random((20, 3)) * 8, 8 * np.eye(3)
    rotation = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    verlet = VerletList(4.0, 1.0)
    verlet.update(positions, cell, True)
    assert_current(verlet, positions @ rotation, cell @ rotation, True)
    assert verlet.statistics.reuses == 1


@pytest.mark.parametrize("num_atoms", [9, 60])
def test_molecule_without_a_cell(num_atoms):
    """Below and above the size where all pairs are kept; atoms fly apart and come together."""
    rng = np.random.default_rng(5)
    start = rng.uniform(0, 2 * num_atoms ** (1 / 3), (num_atoms, 3))
    verlet = VerletList(3.0, 1.0)
    for scale in [1.0, 1.01, 1.3, 5.0, 0.4, 0.41]:
        assert_current(verlet, scale * start, np.zeros((3, 3)), False)
    assert verlet.statistics.reuses == (5 if num_atoms == 9 else 2)


def test_wrapped_atoms(slab):
    positions, cell, pbc = slab
    verlet = VerletList(4.0, 1.0)
    verlet.update(positions, cell, pbc)
    positions = positions.copy()
    positions[::3] += cell[0] - cell[1]
    assert_current(verlet, positions, cell, pbc)
    assert verlet.statistics.builds == 2


def test_atom_jumping_by_a_short_lattice_vector_is_covered_by_the_skin():
    positions, cell = np.array([[0.0, 0, 0], [0.1, 1.0, 0]]), np.diag([0.3, 5.0, 5.0])
    verlet = VerletList(2.0, 1.0)
    verlet.update(positions, cell, True)
    assert_current(verlet, positions + np.diag([0.3, 0, 0])[:2], cell, True)
    assert verlet.statistics.reuses == 1


def test_other_structures_rebuild(slab):
    positions, cell, pbc = slab
    verlet = VerletList(4.0, 1.0)
    for args in [(positions, cell, pbc), (positions[:-1], cell, pbc), (positions[:-1], cell, [True, False, False])]:
        assert_current(verlet, *args)
    assert_current(verlet, np.zeros((0, 3)), cell, pbc)
    assert_current(verlet, np.zeros((1, 3)), cell, pbc)
    assert (verlet.statistics.builds, verlet.statistics.reuses) == (5, 0)


def test_periodicity_along_another_vector_rebuilds():
    """The lattice vectors are so alike that the list would be reused, with shifts of the wrong vector."""
    cell, verlet = np.array([[2.0, 0, 0], [2.0, 0.1, 0], [0, 0, 5]]), VerletList(3.0, 1.0)
    for pbc in ([True, False, False], [False, True, False], [False, False, False], [True, True, False]):
        assert_current(verlet, np.zeros((1, 3)), cell, pbc)
    assert verlet.statistics.builds == 4


@pytest.mark.parametrize("pbc", [False, True])
def test_no_skin_searches_at_every_update(pbc):
    positions, verlet = np.random.default_rng(7).random((5, 3)) * 4, VerletList(3.0, skin=0)
    for scale in (1.0, 1.0, 1.1):
        assert_current(verlet, scale * positions, scale * 4 * np.eye(3), pbc)
    assert (verlet.statistics.builds, verlet.statistics.reuses) == (3, 0)


def test_error_leaves_a_usable_list(slab):
    positions, cell, pbc = slab
    verlet = VerletList(4.0, 1.0)
    verlet.update(positions, cell, pbc)
    broken = positions.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match=r"^atom 3 is at"):
        verlet.update(broken, cell, pbc)
    with pytest.raises(ValueError, match=r"periodic along b.*zero"):
        verlet.update(positions[::-1], np.diag([7.0, 0, 0]), pbc)
    assert_current(verlet, positions[::-1], cell, pbc)
    assert_current(verlet, positions, cell, pbc)


def test_returned_arrays_and_inputs_are_independent_of_the_list(slab):
    positions, cell, pbc = (array.copy() for array in slab)
    verlet = VerletList(4.0, 1.0)
    edge_index, vectors = verlet.update(positions, cell, pbc)
    kept = edge_index.copy(), vectors.copy()
    verlet.update(positions + 0.01 * np.arange(40)[:, None] / 40, cell, pbc)
    np.testing.assert_array_equal(edge_index, kept[0])
    np.testing.assert_array_equal(vectors, kept[1])
    edge_index[:] = 0
    vectors[:] = np.nan
    positions += 3 * np.random.default_rng(6).random(positions.shape)  # in place: the reference must not follow
    assert_current(verlet, positions, cell, pbc)
    assert verlet.statistics.builds == 2


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda verlet: pickle.loads(pickle.dumps(verlet))])
def test_copies_work(slab, clone):
    verlet = VerletList(4.0, 1.0)
    verlet.update(*slab)
    other = clone(verlet)
    assert_current(other, *slab)
    assert (other.statistics.reuses, verlet.statistics.reuses) == (1, 0)


@pytest.mark.parametrize(
    ("cutoff", "skin", "name"),
    [(0.0, 1.0, "cutoff"), (-1.0, 1.0, "cutoff"), (np.nan, 1.0, "cutoff"), (3.0, -0.1, "skin"), (3.0, np.nan, "skin")],
)
def test_unusable_cutoff_or_skin(cutoff, skin, name):
    with pytest.raises(ValueError, match=f"^{name} is"):
        VerletList(cutoff, skin)
