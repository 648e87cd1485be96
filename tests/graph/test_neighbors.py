"""Fresh neighbor lists against brute force, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import as_tuples, brute_force
from hypothesis import given, settings
from hypothesis import strategies as st
from structures import CUTOFF, structures

from ase_equivariant.graph import neighbors
from ase_equivariant.graph.neighbors import VerletList, neighbor_list

CUBIC = np.eye(3)


def assert_exact(positions, cell, pbc, cutoff):
    """The list is that of brute force, sorted, without doubles, with vectors that follow from the shifts."""
    positions, cell, pbc = np.array(positions, dtype=float), np.array(cell, dtype=float), np.array(pbc, dtype=bool)
    edge_index, vectors, shifts = neighbor_list(positions, cell, pbc, cutoff)
    edges = as_tuples(edge_index, shifts)
    assert edges == sorted(set(edges))
    assert set(edges) == brute_force(positions, cell, pbc, cutoff)
    assert (edge_index.dtype, vectors.dtype, shifts.dtype) == (np.int64, np.float64, np.int64)
    assert (edge_index.shape, vectors.shape, shifts.shape) == ((2, len(edges)), (len(edges), 3), (len(edges), 3))
    i, j = edge_index
    np.testing.assert_allclose(vectors, positions[j] - positions[i] + shifts @ cell, rtol=0, atol=1e-12)
    return edges


@settings(deadline=None, derandomize=True, max_examples=500)
@given(structures(), st.booleans())
def test_no_pair_is_missing_or_doubled(structure, shortcuts):
    with pytest.MonkeyPatch.context() as patch:
        if not shortcuts:  # small molecules go the way of large ones
            patch.setattr(neighbors, "_ALL_PAIRS_ATOMS", 0)
        edges = assert_exact(structure.positions, structure.cell, structure.pbc, CUTOFF)
    assert {(j, i, -a, -b, -c) for i, j, a, b, c in edges} == set(edges)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(structures(max_atoms=4))
def test_large_structures_agree_with_brute_force_through_matscipy(structure):
    """More atoms than the all-pairs limit, so that clusters and molecules reach matscipy too."""
    rng = np.random.default_rng(len(structure.positions))
    positions = np.concatenate([structure.positions, rng.uniform(-6, 6, (105, 3))])
    pbc = structure.pbc & (np.linalg.norm(structure.cell, axis=1) > 3.0)
    assert_exact(positions, structure.cell, pbc, 1.5)


@pytest.mark.parametrize("length", [0.1, 0.3, 1.0])
def test_tiny_cell_has_its_lattice_sums(length):
    """One atom: the number of edges is the number of lattice points in the sphere."""
    cutoff = 12.5 * length
    edge_index, _, _ = neighbor_list(np.zeros((1, 3)), length * CUBIC, True, cutoff)
    n = np.mgrid[-13:14, -13:14, -13:14].reshape(3, -1)
    assert edge_index.shape[1] == np.count_nonzero((n**2).sum(axis=0) < 12.5**2) - 1


def test_known_crystal():
    """fcc has 12 first and 6 second neighbors, from its one-atom cell."""
    cell = 2.0 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    edges = assert_exact([[0.3, 9.0, -7.0]], cell, [True] * 3, 4.01)
    assert len(edges) == 18


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.diag([4.0, 0.0, 0.0]), CUBIC, np.ones((3, 3))])
@pytest.mark.parametrize("num_atoms", [0, 1, 2, 120])
def test_cell_of_a_molecule_does_not_matter(cell, num_atoms):
    positions = np.random.default_rng(0).uniform(-4, 4, (num_atoms, 3))
    assert_exact(positions, cell, [False] * 3, 2.5)


@pytest.mark.parametrize("num_atoms", [3, 150])
@pytest.mark.parametrize("axes", [[2], [0], [0, 1], [0, 1, 2]])
def test_flat_and_collinear_molecules(num_atoms, axes):
    positions = np.random.default_rng(1).uniform(0, 30, (num_atoms, 3))
    positions[:, axes] = 0.125
    assert_exact(positions, np.zeros((3, 3)), [False] * 3, 2.0)


@pytest.mark.parametrize("normal", [[0, 0, 0], [3, 1, 0], [3, 1, 1e-9], [1, 1, 20]])
def test_slab_with_any_third_vector(normal):
    positions = np.random.default_rng(2).uniform(-10, 10, (20, 3))
    cell = np.array([[4.0, 0, 0], [1, 3, 0], normal])
    assert_exact(positions, cell, [True, True, False], 3.0)


def test_wire_along_the_last_axis():
    positions = np.random.default_rng(3).uniform(-3, 3, (12, 3))
    assert_exact(positions, [[0, 0, 0], [0, 0, 0], [1.0, 2.0, 2.0]], [False, False, True], 3.0)


def test_empty_structure():
    edge_index, vectors, shifts = neighbor_list(np.zeros((0, 3)), 5 * CUBIC, True, 3.0)
    assert (edge_index.shape, vectors.shape, shifts.shape) == ((2, 0), (0, 3), (0, 3))


def test_atoms_at_one_point_are_neighbors():
    edges = assert_exact([[1.0, 2.0, 3.0]] * 3, np.zeros((3, 3)), [False] * 3, 1.0)
    assert len(edges) == 6


@pytest.mark.parametrize("pbc", [False, True])
def test_distance_equal_to_the_cutoff_is_no_edge(pbc):
    positions = np.array([[0.0, 0, 0], [3.0, 0, 0]])
    assert neighbor_list(positions, 20 * CUBIC, pbc, 3.0)[0].shape == (2, 0)
    assert neighbor_list(positions, 20 * CUBIC, pbc, np.nextafter(3.0, 4.0))[0].shape == (2, 2)


def test_atoms_many_cells_away():
    """Shifts follow the atoms: millions of cells away along periodic directions, far out along the others."""
    positions = np.array([[0.0, 0, 0], [4e6 + 1, -8e5, 0.5], [1.0, 1.0, 5e5], [0.5, 2.0, 5e5 + 1]])
    edge_index, vectors, shifts = neighbor_list(positions, 4 * CUBIC, [True, True, False], 1.6)
    home = positions.copy()
    home[1] = [1.0, 0.0, 0.5]
    expected = brute_force(home, 4 * CUBIC, [True, True, False], 1.6)
    moved = np.array([[0, 0, 0], [1_000_000, -200_000, 0], [0, 0, 0], [0, 0, 0]])
    assert set(as_tuples(edge_index, shifts - moved[edge_index[0]] + moved[edge_index[1]])) == expected
    assert (np.linalg.norm(vectors, axis=1) < 1.6).all()


def test_shifts_too_far_apart_for_one_integer_code():
    positions = np.array([[0.0, 0, 0], [8e8, 8e8, 8e8], [-8e8, -8e8, -8e8]])
    edge_index, _, shifts = neighbor_list(positions, 0.25 * CUBIC, True, 0.3)
    assert np.array_equal(np.bincount(edge_index[0]), [20, 20, 20])  # 6 images of itself, 7 of each other atom
    assert shifts.max() == 6_400_000_001
    assert as_tuples(edge_index, shifts) == sorted(as_tuples(edge_index, shifts))


def test_fragment_far_from_a_cluster_costs_no_memory():
    """matscipy alone would ask for (10⁶/1.5)³ bins here; wider bins would make every pair a candidate."""
    cluster = np.random.default_rng(4).uniform(0, 8, (200, 3))
    positions = np.concatenate([cluster, [[1e6, -1e6, 1e6], [1e6, -1e6, 1e6 + 1]]])
    assert_exact(positions, np.zeros((3, 3)), [False] * 3, 1.5)
    with_fragment, alone = VerletList(1.0, skin=0.5), VerletList(1.0, skin=0.5)
    with_fragment.update(positions, np.zeros((3, 3)), False)
    alone.update(cluster, np.zeros((3, 3)), False)
    assert with_fragment.statistics.num_candidates == alone.statistics.num_candidates + 2


def test_few_atoms_in_a_huge_periodic_box():
    positions = np.array([[0.1, 0, 0], [1.0, 0, 0], [9999.5, 9999.9, 0]])
    edges = assert_exact(positions, 10_000 * CUBIC, [True] * 3, 1.5)
    assert len(edges) == 4


def test_very_skewed_cell_is_the_same_lattice():
    """Heights of 1e-6 Å in the given vectors, a simple cubic lattice in truth."""
    cell = np.array([[1.0, 0, 0], [1000, 1, 0], [1000, 1000, 1]])
    edge_index, vectors, shifts = neighbor_list(np.zeros((1, 3)), cell, True, 1.5)
    assert edge_index.shape[1] == 18
    np.testing.assert_allclose(np.sort(np.abs(vectors), axis=1)[:, 0], 0.0, atol=1e-9)
    np.testing.assert_array_equal(shifts @ cell, vectors)


def test_inputs_are_not_changed():
    positions, cell = np.random.default_rng(5).uniform(-9, 9, (30, 3)), np.diag([4.0, 5.0, 0.0])
    before = positions.copy(), cell.copy()
    neighbor_list(positions, cell, [True, True, False], 3.0)
    np.testing.assert_array_equal(positions, before[0])
    np.testing.assert_array_equal(cell, before[1])


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        (np.diag([3.0, 0, 3]), [True, True, True], "periodic along b.*zero"),
        (np.zeros((3, 3)), [False, False, True], "periodic along c.*zero"),
        (np.array([[1.0, 1, 0], [2, 2, 0], [0, 0, 1]]), [True, True, False], "linearly dependent"),
        (np.ones((3, 3)), [True, True, True], "linearly dependent"),
        (np.diag([1e-3, 1e-3, 1e-3]), [True, True, True], "cell is too small"),
        (np.diag([1.0, np.nan, 1]), [False] * 3, "cell is"),
        (np.diag([1.0, np.inf, 1]), [False] * 3, "cell is"),
        (np.eye(2), [False] * 3, r"shape \(2, 2\)"),
        (np.eye(3), [False] * 2, r"shape \(2,\)"),
    ],
)
def test_unusable_cell_raises_one_line(cell, pbc, message):
    with pytest.raises(ValueError, match=message) as error:
        neighbor_list(np.zeros((1, 3)), cell, pbc, 3.0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e12])
@pytest.mark.parametrize("pbc", [False, True])
def test_unusable_positions_name_the_first_atom(value, pbc):
    positions = np.zeros((4, 3))
    positions[2, 1] = positions[3, 0] = value
    with pytest.raises(ValueError, match=r"^atom 2 is at \[0\.0, .*, 0\.0\] Å"):
        neighbor_list(positions, 5 * CUBIC, pbc, 3.0)


def test_positions_of_wrong_shape():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        neighbor_list(np.zeros(3), CUBIC, False, 3.0)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan, np.inf])
def test_unusable_cutoff(cutoff):
    with pytest.raises(ValueError, match=r"^cutoff is .* positive"):
        neighbor_list(np.zeros((1, 3)), CUBIC, False, cutoff)
