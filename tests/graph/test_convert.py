"""ase.Atoms to graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from ase_equivariant.graph.convert import atoms_to_graph, graph_from_edges
from ase_equivariant.graph.neighbors import VerletList, neighbor_list

STRUCTURES = {
    "molecule": molecule("CH3CH2OH"),
    "crystal": bulk("Si"),
    "slab": fcc111("Cu", (2, 2, 2), vacuum=None),
    "atom": Atoms("H"),
    "empty": Atoms(),
    "unknown": Atoms("XH", [[0, 0, 0], [0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_graph_holds_the_neighbor_list(name, dtype):
    atoms = STRUCTURES[name]
    graph = atoms_to_graph(atoms, 3.5, dtype=dtype)
    edge_index, edge_vectors, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, 3.5)
    assert graph.atomic_numbers.tolist() == atoms.numbers.tolist()
    assert graph.batch.tolist() == [0] * len(atoms)
    np.testing.assert_array_equal(graph.edge_index.numpy(), edge_index)
    torch.testing.assert_close(graph.edge_vectors, torch.tensor(edge_vectors, dtype=dtype), rtol=0, atol=0)
    assert (graph.edge_vectors.dtype, graph.cell.dtype) == (dtype, dtype)
    assert {graph.atomic_numbers.dtype, graph.edge_index.dtype, graph.batch.dtype} == {torch.int64}
    assert graph.cell.shape == (1, 3, 3)


def test_cell_is_zero_unless_there_are_three_vectors():
    assert atoms_to_graph(STRUCTURES["molecule"], 3.0).volume.item() == 0.0
    assert atoms_to_graph(STRUCTURES["slab"], 3.0).cell.abs().max().item() == 0.0
    crystal = STRUCTURES["crystal"]
    assert atoms_to_graph(crystal, 3.0).volume.item() == pytest.approx(crystal.cell.volume, rel=1e-12)


def test_partly_periodic_structure_keeps_its_own_cell():
    """The box that the search puts around a slab is never the cell, or stress and volume would be wrong."""
    slab = fcc111("Cu", (2, 2, 2), vacuum=10.0)
    assert slab.pbc.tolist() == [True, True, False]
    assert atoms_to_graph(slab, 3.0).volume.item() == pytest.approx(slab.cell.volume, rel=1e-12)


def test_edges_of_a_verlet_list_give_the_same_graph():
    atoms = bulk("Si", cubic=True)
    edge_index, edge_vectors = VerletList(4.0).update(atoms.positions, atoms.cell.array, atoms.pbc)
    reused = graph_from_edges(atoms, edge_index, edge_vectors)
    fresh = atoms_to_graph(atoms, 4.0)
    for field in ("atomic_numbers", "edge_index", "edge_vectors", "cell", "batch"):
        assert torch.equal(getattr(reused, field), getattr(fresh, field))


def test_atoms_are_not_changed_nor_shared():
    atoms = bulk("Si", cubic=True)
    atoms.positions += 40.0  # outside the cell, where a list must not wrap them for good
    before = atoms.copy()
    graph = atoms_to_graph(atoms, 4.0)
    for tensor in (graph.atomic_numbers, graph.edge_vectors, graph.cell):
        tensor.zero_()
    assert atoms == before


def test_unusable_structure_raises():
    atoms = Atoms("H2", [[0, 0, 0], [0, np.nan, 0]])
    with pytest.raises(ValueError, match=r"^atom 1 is at \[0\.0, nan, 0\.0\] Å"):
        atoms_to_graph(atoms, 3.0)
