"""A structure in pieces: each evaluates its own atoms, and exchanges rows of the others between layers."""

import threading

import numpy as np
import pytest
import torch
from test_frozen import NETWORKS, crystal, make

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.frozen import FrozenPotential

pytestmark = pytest.mark.skipif(native.best_level() < 0, reason="no compiled kernels: there is no C++ compiler")


class Pieces:
    """Owners' rows, which threads that stand for processes put down and pick up in turns."""

    def __init__(self, owner, count):
        self.barrier, self.rows, self.count = threading.Barrier(count), None, count
        self.atoms = [np.concatenate([np.flatnonzero(owner == p), np.flatnonzero(owner != p)]) for p in range(count)]
        self.centres = [int((owner == p).sum()) for p in range(count)]

    def exchange(self, piece):
        atoms, centres = self.atoms[piece], self.centres[piece]

        def swap(rows, gradients):
            if self.barrier.wait() == 0:
                self.rows = np.zeros((len(atoms), rows.shape[1]), rows.dtype)
            self.barrier.wait()
            for turn in range(self.count):
                if turn == piece:
                    if gradients:
                        self.rows[atoms] += rows
                    else:
                        self.rows[atoms[:centres]] = rows[:centres]
                self.barrier.wait()
            if gradients:
                rows[:centres] = self.rows[atoms[:centres]]
            else:
                rows[centres:] = self.rows[atoms[centres:]]
            self.barrier.wait()

        return swap


def in_pieces(frozen, graph, species, owner, count):
    """Energies, forces and virials of all atoms, assembled."""
    pieces, found = Pieces(owner, count), [None] * count
    n, edges, vectors = len(owner), graph.edge_index.numpy(), graph.edge_vectors.numpy()
    runners = [native.NetworkRunner(frozen._builder.network, frozen.level, frozen._builder.real) for _ in range(count)]

    def run(piece):
        atoms, centres = pieces.atoms[piece], pieces.centres[piece]
        place = np.empty(n, dtype=np.int64)
        place[atoms] = np.arange(n)
        mine = np.flatnonzero(owner[edges[0]] == piece)
        local = place[edges[:, mine]]
        order = np.argsort(local[0], kind="stable")
        found[piece] = runners[piece](
            species[atoms], local[:, order], vectors[mine][order], forces=True, virials=True, threads=1 + piece % 2,
            num_centres=centres, exchange=pieces.exchange(piece),
        )  # fmt: skip

    workers = [threading.Thread(target=run, args=(piece,)) for piece in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    energies, forces, virials = np.zeros(n), np.zeros((n, 3)), np.zeros((n, 3, 3))
    for piece, (e, f, v) in enumerate(found):
        atoms = pieces.atoms[piece]
        energies[atoms[: pieces.centres[piece]]] = e
        forces[atoms] += f
        virials[atoms] += v
    return energies, forces, virials


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", [1, 3, 4])
def test_pieces_are_the_whole(name, count):
    potential = make(name)
    frozen, graph = FrozenPotential(potential), atoms_to_graph(crystal(), 3.5, dtype=torch.float64)
    species = potential.species_indices(graph.atomic_numbers).numpy()
    owner = np.random.default_rng(0).integers(0, min(count, 3), len(species))  # with four pieces, one is empty
    energies, forces, virials = in_pieces(frozen, graph, species, owner, count)
    whole = frozen(graph, forces=True, stress=True)
    np.testing.assert_allclose(energies, whole["node_energies"], rtol=0, atol=1e-11)
    np.testing.assert_allclose(forces, whole["forces"], rtol=0, atol=1e-11)
    np.testing.assert_allclose(virials, whole["node_virials"], rtol=0, atol=1e-11)


def test_what_the_exchange_raises_comes_through():
    potential = make("l=4, alone")
    frozen, graph = FrozenPotential(potential), atoms_to_graph(crystal(), 3.5, dtype=torch.float64)
    species = potential.species_indices(graph.atomic_numbers).numpy()

    def broken(rows, gradients):
        raise RuntimeError("rank 3 is gone")

    with pytest.raises(RuntimeError, match="rank 3 is gone"):
        frozen._run(
            species, graph.edge_index.numpy(), graph.edge_vectors.numpy(), forces=True, virials=False, threads=1,
            num_centres=len(species), exchange=broken,
        )  # fmt: skip
