"""A potential with fixed weights, evaluated by compiled code: radial networks as tables, one native call a step.

What :class:`~ase_equivariant.potential.Potential` computes layer by layer with autograd, this computes with
derivatives written out (``kernels/csrc/network.cpp``). The potential it was made from stays its reference.
"""

from __future__ import annotations

from copy import deepcopy

import torch

from ase_equivariant.architectures import Exchange
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.freeze import NotFreezableError, refuse_unsupported
from ase_equivariant.potential.potential import Potential, Prediction, add_virial_and_stress
from ase_equivariant.potential.readouts import sum_over_structures
from ase_equivariant.potential.shared_network import shared_network
from ase_equivariant.potential.short_range import add_repulsion

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
        builder = shared_network(potential, self.dtype, self.level)
        self.num_intervals, self.table_error = builder.num_intervals, builder.table_error
        self._builder = builder  # owns the arrays, which other copies of the potential may use too
        self._run = native.NetworkRunner(builder.network, self.level, builder.real)

    def __call__(
        self, graph: AtomicGraph, *, forces: bool = True, stress: bool = False, exchange: Exchange | None = None
    ) -> Prediction:
        """Energy and the derivatives asked for, as :meth:`Potential.forward` gives them, with ``exchange`` too.

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
            num_centres=None if exchange is None else exchange.num_local,
            exchange=None if exchange is None else exchange.in_place,
        )
        node_energies = torch.from_numpy(energies)
        prediction = Prediction(node_energies=node_energies)
        if force_array is not None and forces:
            prediction["forces"] = torch.from_numpy(force_array)
        if virial_array is not None:
            prediction["node_virials"] = torch.from_numpy(virial_array)
        if self._repulsion is not None:
            add_repulsion(prediction, self._repulsion, graph, species)
        local = prediction["node_energies"]
        prediction["energy"] = sum_over_structures(local, graph.batch[: len(local)], graph.num_structures)
        if "node_virials" in prediction:
            add_virial_and_stress(prediction, graph)
        return prediction
