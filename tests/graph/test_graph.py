"""The atomic graph: sizes, batches, devices and types."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph


@pytest.fixture
def graphs():
    """A molecule, an empty structure, a lone atom and a crystal."""
    return [atoms_to_graph(atoms, 3.0) for atoms in (molecule("H2O"), Atoms(), Atoms("He"), bulk("Si"))]


def test_sizes(graphs):
    water, empty, helium, silicon = graphs
    assert (water.num_atoms, water.num_edges, water.num_structures) == (3, 6, 1)
    assert (empty.num_atoms, empty.num_edges, empty.num_structures) == (0, 0, 1)
    assert (helium.num_atoms, helium.num_edges) == (1, 0)
    assert (silicon.num_atoms, silicon.num_edges) == (2, 8)


def test_volume_is_positive_for_left_handed_cells():
    atoms = bulk("Si")
    right = atoms_to_graph(atoms, 3.0).volume
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    torch.testing.assert_close(atoms_to_graph(atoms, 3.0).volume, right)
    assert right.item() == pytest.approx(5.43**3 / 4)


def test_collate_keeps_structures_apart(graphs):
    batch = AtomicGraph.collate(graphs)
    assert (batch.num_atoms, batch.num_edges, batch.num_structures) == (6, 14, 4)
    assert batch.batch.tolist() == [0, 0, 0, 2, 3, 3]
    assert batch.atomic_numbers.tolist() == [8, 1, 1, 2, 14, 14]
    i, j = batch.edge_index
    assert torch.equal(batch.batch[i], batch.batch[j])
    assert (i[1:] >= i[:-1]).all()
    torch.testing.assert_close(batch.volume, torch.cat([graph.volume for graph in graphs]))
    torch.testing.assert_close(batch.edge_vectors[6:], graphs[3].edge_vectors)
    assert torch.equal(batch.edge_index[:, 6:] - 4, graphs[3].edge_index)


def test_collate_of_batches_is_the_batch_of_all(graphs):
    nested = AtomicGraph.collate([AtomicGraph.collate(graphs[:2]), AtomicGraph.collate(graphs[2:])])
    flat = AtomicGraph.collate(graphs)
    for field in dataclasses.fields(AtomicGraph):
        assert torch.equal(getattr(nested, field.name), getattr(flat, field.name))


def test_collate_of_nothing_raises():
    with pytest.raises(ValueError, match="empty list"):
        AtomicGraph.collate([])


def test_to_changes_floating_point_types_only(graphs):
    graph = graphs[3].to(dtype=torch.float32)
    assert (graph.edge_vectors.dtype, graph.cell.dtype) == (torch.float32, torch.float32)
    assert {graph.atomic_numbers.dtype, graph.edge_index.dtype, graph.batch.dtype} == {torch.int64}
    assert graphs[3].edge_vectors.dtype == torch.float64


def test_graph_is_frozen(graphs):
    with pytest.raises(dataclasses.FrozenInstanceError):
        graphs[0].cell = torch.zeros(1, 3, 3)
