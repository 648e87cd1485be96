"""Forces, virial and stress: derivatives with respect to the edge vectors, taken once, here."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_equivariant.graph.graph import AtomicGraph


def edge_gradients(energy: Tensor, edge_vectors: Tensor, create_graph: bool, retain_graph: bool = False) -> Tensor:
    """``g_ij = dE/dr_ij`` in eV/Å, (E, 3); zero if no edge carries energy. ``retain_graph`` allows for another one."""
    if not energy.requires_grad:
        return torch.zeros_like(edge_vectors)
    with torch.enable_grad():  # the caller may have switched gradients off
        total = energy.sum()
    (gradients,) = torch.autograd.grad(
        total,
        edge_vectors,
        create_graph=create_graph,
        retain_graph=create_graph or retain_graph,
        materialize_grads=True,
    )
    return gradients


def forces_from_edges(gradients: Tensor, graph: AtomicGraph) -> Tensor:
    """``F_i = Σ_j g_ij − Σ_j g_ji``, (N, 3) eV/Å, since r_ij = r_j − r_i. They sum to zero exactly."""
    forces = gradients.new_zeros(graph.num_atoms, 3)
    return forces.index_add(0, graph.edge_index[0], gradients).index_add(0, graph.edge_index[1], -gradients)


def node_virials_from_edges(gradients: Tensor, graph: AtomicGraph) -> Tensor:
    """Each atom's share of the virial, (N, 3, 3) eV: half of ``−r_ij ⊗ g_ij`` to either end of the edge.

    Made exactly symmetric; the sum over atoms is so already for a rotation-invariant energy.
    """
    outer = gradients.unsqueeze(2) * graph.edge_vectors.unsqueeze(1)
    outer = -0.25 * (outer + outer.transpose(1, 2))
    share = gradients.new_zeros(graph.num_atoms, 3, 3)
    return share.index_add(0, graph.edge_index[0], outer).index_add(0, graph.edge_index[1], outer)


def virial_from_nodes(node_virials: Tensor, graph: AtomicGraph) -> Tensor:
    """``W = −Σ r_ij ⊗ g_ij`` of every structure, (S, 3, 3) eV."""
    return node_virials.new_zeros(graph.num_structures, 3, 3).index_add(0, graph.batch, node_virials)


def stress_from_virial(virial: Tensor, volume: Tensor) -> Tensor:
    """``σ = −W / V``, (S, 3, 3) eV/Å³, tensile positive; NaN where the volume (S,) is zero."""
    nan = volume.new_full((), float("nan"))
    return -virial / torch.where(volume > 0, volume, nan)[:, None, None]


def born_effective_charges(
    dipole: Tensor, point_charges: Tensor, edge_vectors: Tensor, graph: AtomicGraph, create_graph: bool
) -> Tensor:
    """``Z_i,ab = dμ_a/dr_ib`` in e, (N, 3, 3); what autograd needs is kept for other derivatives.

    Parameters
    ----------
    dipole : Tensor
        (S, 3) e·Å, a function of the edge vectors.
    point_charges : Tensor
        (N,) e: what an atom adds by moving alone, edges apart. They sum to the total charge, and so do the
        diagonals of Z, as those of the edges' part sum to zero (acoustic sum rule).
    edge_vectors : Tensor
        (E, 3).
    graph : AtomicGraph
        Of the edges.
    create_graph : bool
        Whether the result is differentiable.

    References
    ----------
    Gonze and Lee, Phys. Rev. B 55, 10355 (1997), doi:10.1103/PhysRevB.55.10355.
    """
    rows = [
        -forces_from_edges(edge_gradients(dipole[:, a], edge_vectors, create_graph, retain_graph=True), graph)
        for a in range(3)
    ]
    unit = torch.eye(3, dtype=dipole.dtype, device=dipole.device)
    return torch.stack(rows, dim=1).to(dipole.dtype) + point_charges[:, None, None] * unit
