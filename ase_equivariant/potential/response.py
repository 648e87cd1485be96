"""Derivatives beyond forces: second ones of the energy, first ones of the polarizability; by autograd, in batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.derivatives import edge_gradients, forces_from_edges
from ase_equivariant.potential.potential import Potential

# Edges of all copies together; memory grows by it, time hardly falls beyond it.
_MAX_EDGES = 20_000
_SYMMETRIC = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def hessian(potential: Potential, graph: AtomicGraph, max_edges: int = _MAX_EDGES) -> Tensor:
    """``H_ia,jb = d²E/(dr_ia dr_jb)``, (3 N, 3 N) eV/Å², symmetric; of a crystal at the Γ point.

    Each copy of the structure in a batch gives one row: the derivative of one force component, by a second backward
    pass through all copies at once. Copies do not see each other, and every operation with two derivatives will do,
    which one with a vmap of its own need not have.

    Parameters
    ----------
    potential : Potential
        In float64 for frequencies to 0.1/cm.
    graph : AtomicGraph
        One structure.
    max_edges : int
        Of the copies in a batch together, at least one copy.

    Raises
    ------
    ValueError
        If the graph is not of one structure, or that has no atoms.
    """
    size = 3 * graph.num_atoms

    def forces(copies: AtomicGraph) -> Tensor:
        species = potential.species_indices(copies.atomic_numbers)
        energies = potential.atomic_energies(species, copies.edge_index, copies.edge_vectors)
        gradients = edge_gradients(energies.sum(), copies.edge_vectors, create_graph=True)
        return forces_from_edges(gradients, copies).reshape(-1, size)

    rows = -_derivatives(forces, potential, graph, size, max_edges)
    return (rows + rows.T) / 2


def polarizability_derivatives(potential: Potential, graph: AtomicGraph, max_edges: int = _MAX_EDGES) -> Tensor:
    """``dα_ab/dr_ic``, (3, 3, N, 3) e²·Å/eV, what Raman intensities are made of.

    Parameters
    ----------
    potential, graph, max_edges
        As of :func:`hessian`.

    Raises
    ------
    ValueError
        If the model predicts no polarizability, or as :func:`hessian`.
    """
    if "polarizability" not in potential.readouts:
        raise ValueError("this model does not predict a polarizability: there are no derivatives of it")

    def components(copies: AtomicGraph) -> Tensor:
        species = potential.species_indices(copies.atomic_numbers)
        features = potential.network(species, copies.edge_index, copies.edge_vectors)
        alpha = potential.readouts["polarizability"](features, species, copies)
        return torch.stack([alpha[:, a, b] for a, b in _SYMMETRIC], dim=1)

    rows = _derivatives(components, potential, graph, len(_SYMMETRIC), max_edges)
    result = rows.new_zeros(3, 3, graph.num_atoms, 3)
    for row, (a, b) in zip(rows.reshape(-1, graph.num_atoms, 3), _SYMMETRIC, strict=True):
        result[a, b] = result[b, a] = row
    return result


def _derivatives(
    function: Callable[[AtomicGraph], Tensor], potential: Potential, graph: AtomicGraph, size: int, max_edges: int
) -> Tensor:
    """Derivatives of ``size`` components by the positions, (size, 3 N) float64, from (copies, size) of a batch."""
    if graph.num_structures != 1:
        raise ValueError(f"a batch of {graph.num_structures} structures: give one at a time")
    if not graph.num_atoms:
        raise ValueError("the structure has no atoms: there are no derivatives by their positions")
    graph = graph.to(potential.device, potential.dtype)
    at_once = min(size, max(1, max_edges // max(1, graph.num_edges)))
    rows = []
    for start in range(0, size, at_once):
        wanted = torch.arange(start, min(start + at_once, size), device=potential.device)
        copies = AtomicGraph.collate([graph] * len(wanted))
        copies.edge_vectors.requires_grad_()
        with torch.enable_grad():
            values = function(copies)
            total = values[torch.arange(len(wanted), device=potential.device), wanted].sum()
        gradients = edge_gradients(total, copies.edge_vectors, create_graph=False)
        rows.append(-forces_from_edges(gradients, copies).reshape(len(wanted), -1))
    return torch.cat(rows).to(torch.float64)
