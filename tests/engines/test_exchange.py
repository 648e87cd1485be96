"""Ghosts on one process: images of its own atoms, and what is told where they are nobody's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk
from engines.one_process import OneProcess, images

from ase_equivariant import Potential, PotentialConfig
from ase_equivariant.architectures import GVPConfig, NequIPConfig
from ase_equivariant.engines.domain import Domain
from ase_equivariant.engines.exchange import GhostExchange
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.graph.neighbors import neighbor_list

CUTOFF = 3.5


@pytest.mark.parametrize("architecture", [NequIPConfig, GVPConfig])
def test_a_crystal_of_ghosts_is_the_periodic_crystal(architecture, check):
    settings = {"irreps_hidden": "4x0e+3x1o+2x2e"} if architecture is NequIPConfig else {"num_scalars": 5}
    network = architecture(species=("Si",), cutoff=CUTOFF, num_layers=3, avg_num_neighbors=10.0, **settings)
    potential = Potential(PotentialConfig(architecture=network, zbl=True, zbl_outer=3.0)).requires_grad_(False)
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    expected = potential(atoms_to_graph(atoms, CUTOFF), stress=True)

    positions, owners = images(atoms, CUTOFF)
    edge_index, vectors, _ = neighbor_list(positions, np.zeros((3, 3)), False, CUTOFF)
    of_local = edge_index[0] < len(atoms)
    exchange = GhostExchange(OneProcess(), owners[: len(atoms)] + 1, owners[len(atoms) :] + 1)
    graph = AtomicGraph(
        torch.full((len(owners),), 14), torch.from_numpy(edge_index[:, of_local]), torch.from_numpy(vectors[of_local]),
        torch.zeros(1, 3, 3), torch.zeros(len(owners), dtype=torch.int64),
    )  # fmt: skip
    found = potential(graph, stress=True, exchange=exchange)

    assert exchange.num_ghosts > len(atoms)
    for name in ("forces", "node_virials"):
        home = exchange.send_home(found[name].flatten(1)).reshape(expected[name].shape)
        check(f"ghosts on one process: {name}", (home - expected[name]).abs().max().item(), 1e-12)
    violation = (found["node_energies"] - expected["node_energies"]).abs().max().item()
    check("ghosts on one process: energies of atoms (eV)", violation, 1e-12)
    assert exchange.values_sent == 0  # to others


def test_images_of_local_atoms_are_these_atoms():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    positions, owners = images(atoms, CUTOFF + 0.5)
    domain = Domain(CUTOFF, 0.5)
    domain.build(positions, 17 - owners, len(atoms))
    edge_index, vectors = domain.edges(positions)
    graph = atoms_to_graph(atoms, CUTOFF)
    assert domain.num_others == 0
    assert len(domain.rows) == len(atoms)
    found = np.column_stack([edge_index.T, vectors])
    expected = np.column_stack([graph.edge_index.numpy().T, graph.edge_vectors.numpy()])
    in_order = [rows[np.lexsort(np.round(rows, 6).T)] for rows in (found, expected)]
    np.testing.assert_allclose(*in_order, rtol=0, atol=1e-12)


def test_of_an_atom_of_another_process_one_row_is_enough():
    positions = np.array([[0.0, 0, 0], [1.5, 0, 0], [-1.5, 0, 0], [0, 1.5, 0], [0, -1.5, 0], [9.0, 9, 9]])
    domain = Domain(2.0, 0.3)
    domain.build(positions, np.array([4, 9, 9, 7, 4, 8]), 1)  # images of two others, and one of itself
    edge_index, vectors = domain.edges(positions)
    assert domain.num_others == 2
    assert domain.rows.tolist() in ([0, 3, 1], [0, 3, 2])
    assert edge_index.tolist() == [[0] * 4, [2, 2, 1, 0]]
    assert np.array_equal(vectors, positions[1:5])


def test_gradients_go_back_the_way_that_features_came():
    exchange = GhostExchange(OneProcess(), np.array([7, 3, 5]), np.array([5, 7, 5, 5]))
    features = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(exchange(features)[3:], features[[2, 0, 2, 2]])
    assert torch.autograd.gradcheck(exchange, (features,))
    for dtype in (np.float32, np.float64):
        rows = np.arange(21, dtype=dtype).reshape(7, 3)[:, :2]  # a row is longer than what counts of it
        forwards, backwards = rows.copy(), rows.copy()
        exchange.in_place(forwards, gradients=False)
        assert np.array_equal(forwards, exchange.extend(torch.from_numpy(rows[:3].copy())).numpy())
        exchange.in_place(backwards, gradients=True)
        assert np.array_equal(backwards[:3], exchange.send_home(torch.from_numpy(rows.copy())).numpy())


def test_a_ghost_of_nobody_is_named():
    with pytest.raises(ValueError, match="atom 9 is a ghost here but no process has it"):
        GhostExchange(OneProcess(), np.array([1, 2]), np.array([2, 9]))


def test_edges_are_those_of_local_atoms_and_stay_exact_until_the_domain_is_stale():
    rng = np.random.default_rng(2)
    positions, tags = rng.uniform(0, 9, (150, 3)), np.arange(1, 151)
    domain = Domain(3.0, 0.6)
    assert domain.is_stale(positions, tags, 40)
    domain.build(positions, tags, 40)
    moved = positions + rng.uniform(-0.17, 0.17, positions.shape)  # less than 0.3 Å each
    assert not domain.is_stale(moved, tags, 40)
    edge_index, vectors = domain.edges(moved)
    expected, expected_vectors, _ = neighbor_list(moved, np.zeros((3, 3)), False, 3.0)
    centre = expected[0] < 40
    assert np.array_equal(domain.rows[edge_index], expected[:, centre])
    assert np.array_equal(vectors, expected_vectors[centre])

    far = moved.copy()
    far[100, 1] = positions[100, 1] + 0.31
    far[101] = np.nan
    swapped = tags.copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert domain.is_stale(far[:101], tags[:101], 40)
    assert domain.is_stale(far, tags, 40)
    assert domain.is_stale(moved, swapped, 40)
    assert domain.is_stale(moved, tags, 39)
