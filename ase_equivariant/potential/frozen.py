"""A potential with fixed weights, evaluated by compiled code: radial networks as tables, one native call a step.

What :class:`~ase_equivariant.potential.Potential` computes layer by layer with autograd, this computes with
derivatives written out (``kernels/csrc/network.cpp``). The potential it was made from stays its reference.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.derivatives import (
    edge_gradients,
    forces_from_edges,
    node_virials_from_edges,
    stress_from_virial,
)
from ase_equivariant.potential.freeze import NetworkBuilder, NotFreezableError, refuse_unsupported
from ase_equivariant.potential.potential import Potential, Prediction

__all__ = ["FrozenPotential", "NotFreezableError"]


class FrozenPotential:
    """A potential's predictions from compiled code.

    Parameters
    ----------
    potential : Potential
        On the CPU; copied, later changes of its weights are not seen.
    dtype : torch.dtype, optional
        float32 or float64; default the potential's.
    level : int, optional
        Instruction set: 0 baseline, 1 AVX2, 2 AVX-512; default the processor's best.

    Attributes
    ----------
    dtype, device, cutoff, species
        As the potential's.
    num_intervals : int
        Of the radial tables.
    table_error : tuple of float
        Largest relative error of tabulated weights and of their slopes, measured between the knots.

    Raises
    ------
    NotFreezableError
        If there are no compiled kernels, or none for this potential.
    """

    def __init__(self, potential: Potential, dtype: torch.dtype | None = None, *, level: int | None = None):
        self.dtype = potential.dtype if dtype is None else dtype
        refuse_unsupported(potential, self.dtype)
        self.level = native.best_level() if level is None else min(level, native.best_level())
        self.device, self.cutoff, self.species = potential.device, potential.cutoff, potential.species
        self._species_indices = potential.species_indices
        self._repulsion = None if potential.repulsion is None else deepcopy(potential.repulsion).double()
        builder = NetworkBuilder(potential, self.dtype, self.level)
        self.num_intervals, self.table_error = builder.num_intervals, builder.table_error
        self._builder = builder  # owns the arrays
        self._run = native.NetworkRunner(builder.network, self.level, builder.real)

    def __call__(self, graph: AtomicGraph, *, forces: bool = True, stress: bool = False) -> Prediction:
        """Energy and the derivatives asked for, as :meth:`Potential.forward` gives them.

        ``graph.edge_vectors`` may be float64 whatever the network's precision: distances are computed in float64.
        """
        species = self._species_indices(graph.atomic_numbers)
        energies, force_array, virial_array = self._run(
            species.numpy(),
            graph.edge_index.numpy(),
            graph.edge_vectors.to(torch.float64).numpy(),
            forces=forces,
            virials=stress,
            threads=torch.get_num_threads(),
        )
        node_energies = torch.from_numpy(energies)
        prediction = Prediction(node_energies=node_energies)
        if force_array is not None and forces:
            prediction["forces"] = torch.from_numpy(force_array)
        if virial_array is not None:
            prediction["node_virials"] = torch.from_numpy(virial_array)
        if self._repulsion is not None:
            self._add_repulsion(prediction, graph, species)
        prediction["energy"] = _per_structure(prediction["node_energies"], graph)
        if "node_virials" in prediction:
            prediction["virial"] = virial = _per_structure(prediction["node_virials"], graph)
            volume = graph.volume.to(torch.float64)
            if bool((volume > 0).any()):
                prediction["stress"] = stress_from_virial(virial, volume)
        return prediction

    def _add_repulsion(self, prediction: Prediction, graph: AtomicGraph, species: Tensor) -> None:
        """The ZBL energy and its derivatives: few edges are that short, and only those are looked at."""
        repulsion = self._repulsion
        assert repulsion is not None
        near = torch.linalg.vector_norm(graph.edge_vectors, dim=1) < repulsion.outer
        if not bool(near.any()):
            return
        vectors = graph.edge_vectors[near].to(torch.float64).requires_grad_(True)
        short = replace(graph, edge_index=graph.edge_index[:, near], edge_vectors=vectors.detach())
        with torch.enable_grad():
            energies = repulsion(species, short.edge_index, torch.linalg.vector_norm(vectors, dim=1))
            gradients = edge_gradients(energies.sum(), vectors, create_graph=False)
        prediction["node_energies"] += energies.detach()
        if "forces" in prediction:
            prediction["forces"] += forces_from_edges(gradients, short)
        if "node_virials" in prediction:
            prediction["node_virials"] += node_virials_from_edges(gradients, short)


def _per_structure(atomic: Tensor, graph: AtomicGraph) -> Tensor:
    total = atomic.new_zeros((graph.num_structures, *atomic.shape[1:]))
    return total.index_add(0, graph.batch, atomic)
