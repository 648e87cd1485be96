"""The ZBL repulsion beside a compiled network: its energy and derivatives by autograd, of the few short edges."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.derivatives import edge_gradients, forces_from_edges, node_virials_from_edges
from ase_equivariant.potential.potential import Prediction
from ase_equivariant.potential.repulsion import ZBL, EnvelopedZBL


def add_repulsion(prediction: Prediction, repulsion: ZBL | EnvelopedZBL, graph: AtomicGraph, species: Tensor) -> None:
    """Add what it contributes to energies, forces and virials of atoms; it has no weights, so no gradients by them."""
    near = torch.linalg.vector_norm(graph.edge_vectors, dim=1) < repulsion.outer
    if not bool(near.any()):
        return
    dtype = next(repulsion.buffers()).dtype
    vectors = graph.edge_vectors[near].detach().to(dtype).requires_grad_(True)
    short = replace(graph, edge_index=graph.edge_index[:, near], edge_vectors=vectors.detach())
    with torch.enable_grad():
        energies = repulsion(species, short.edge_index, torch.linalg.vector_norm(vectors, dim=1))
        gradients = edge_gradients(energies.sum(), vectors, create_graph=False)
    local = prediction["node_energies"]  # of atoms that are centres: others' belong to other processes
    prediction["node_energies"] = local + energies[: len(local)].detach()
    if "forces" in prediction:
        prediction["forces"] = prediction["forces"] + forces_from_edges(gradients, short)
    if "node_virials" in prediction:
        prediction["node_virials"] = prediction["node_virials"] + node_virials_from_edges(gradients, short)
