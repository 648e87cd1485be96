"""A potential's energies, forces and virials from compiled code, differentiable by its weights.

What autograd does layer by layer and twice, for the forces and again for the weights, is written out in
``kernels/csrc/training.h``. :class:`~ase_equivariant.potential.potential.Potential` stays the definition.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ase_equivariant.architectures.nequip import NequIP
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.freeze import NotFreezableError, refuse_unsupported
from ase_equivariant.potential.packing import Packing
from ase_equivariant.potential.potential import Potential, Prediction, add_virial_and_stress
from ase_equivariant.potential.readouts import sum_over_structures
from ase_equivariant.potential.short_range import add_repulsion
from ase_equivariant.potential.training_layout import TrainingLayout

KNOT_SPACING = 0.02  # Å at most, of the B-splines that stand for the radial networks
_KNOTS_PER_WAVE = 50  # of the fastest radial basis function, num_radial / 2 of which lie within the cutoff


class TrainablePotential:
    """Predictions of a potential, with gradients by its weights, one native call each.

    Radial networks are cubic B-splines of the distance, made anew from the weights at each call.

    Parameters
    ----------
    potential : Potential
        On the CPU, in float32 or float64; its parameters are used as they are at each call.
    spacing : float, optional
        Largest distance of two knots of the splines, Å. Errors of weights go with its fourth power, of forces with
        its third. The default is 0.02, or less for fast radial functions: trained networks' forces on molecules of
        MD17 are then within 5e-5 eV/Å, on average, of the potential's (5e-4 at 0.04).
    level : int, optional
        Instruction set: 0 baseline, 1 AVX2, 2 AVX-512; default the processor's best.

    Raises
    ------
    NotFreezableError
        If there are no compiled kernels, or none for this potential.
    """

    def __init__(self, potential: Potential, *, spacing: float | None = None, level: int | None = None):
        refuse_unsupported(potential, potential.dtype)
        network = potential.network
        assert isinstance(network, NequIP)  # see refuse_unsupported
        config = network.config
        if config.norm != "none":
            raise NotFreezableError("there are no compiled gradients of a normalization")
        if potential.readouts:
            raise NotFreezableError(f"there are no compiled gradients of {', '.join(potential.readouts)}")
        self.potential = potential
        if spacing is None:
            spacing = min(KNOT_SPACING, 2 * config.cutoff / (config.num_radial * _KNOTS_PER_WAVE))
        num_intervals = math.ceil(config.cutoff / spacing)
        best = native.best_level()
        self._layout = TrainingLayout(potential, num_intervals, best if level is None else min(level, best))
        self._pack = Packing(self._layout, potential, num_intervals)
        layout = self._layout
        self._run = native.TrainingRunner(layout.network, layout.level, layout.real, layout.memory.data_ptr())

    def __call__(self, graph: AtomicGraph, *, forces: bool = True, stress: bool = False) -> Prediction:
        """As :meth:`Potential.forward` with ``create_graph=True``; without gradients enabled, only values."""
        species = self.potential.species_indices(graph.atomic_numbers)
        packed = self._pack()
        problem = _Problem(self._run, self._layout.memory, graph, species)
        node_energies, force, node_virials = _Evaluate.apply(problem, *packed)
        prediction = Prediction(node_energies=node_energies, forces=force, node_virials=node_virials)
        if self.potential.repulsion is not None:
            add_repulsion(prediction, self.potential.repulsion, graph, species)
        prediction["energy"] = sum_over_structures(prediction["node_energies"], graph.batch, graph.num_structures)
        if not forces:
            del prediction["forces"]
        if stress:
            add_virial_and_stress(prediction, graph)
        else:
            del prediction["node_virials"]
        return prediction


class _Problem(NamedTuple):
    run: native.TrainingRunner
    memory: Tensor
    graph: AtomicGraph
    species: Tensor


class _Evaluate(torch.autograd.Function):
    """Packed weights to energies (N,), forces (N, 3) and virials (N, 3, 3) of atoms."""

    @staticmethod
    def forward(ctx: Any, problem: _Problem, *packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        start = 0
        for piece in packed:
            problem.memory[start : start + piece.numel()].copy_(piece.flatten())
            start += piece.numel()
        graph = problem.graph
        arrays = problem.run.forces(
            problem.species.numpy(),
            graph.edge_index.numpy(),
            graph.edge_vectors.to(torch.float64).numpy(),
            threads=torch.get_num_threads(),
        )
        ctx.problem, ctx.shapes, ctx.call = problem, [piece.shape for piece in packed], problem.run.calls
        energies, forces, virials = (torch.from_numpy(array) for array in arrays)
        return energies, forces.to(graph.edge_vectors), virials.to(graph.edge_vectors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_energies: Tensor, d_forces: Tensor, d_virials: Tensor) -> tuple[Tensor | None, ...]:
        problem: _Problem = ctx.problem
        if ctx.call != problem.run.calls:
            raise RuntimeError(
                "other structures were evaluated since: call backward() after each prediction, or batch them"
            )
        i, j = problem.graph.edge_index
        # F_i = Σ_j g_ij − Σ_j g_ji; half of −r_ij ⊗ g_ij, made symmetric, to either end
        tangents = (d_forces[i] - d_forces[j]).double()
        share = d_virials + d_virials.transpose(1, 2)
        outer = (share[i] + share[j]).double()
        tangents -= 0.25 * (outer @ problem.graph.edge_vectors.double().unsqueeze(2)).squeeze(2)
        gradients = torch.empty_like(problem.memory)
        problem.run.gradients(d_energies.double().numpy(), tangents.numpy(), gradients.data_ptr(), gradients.numel())
        sizes = [shape.numel() for shape in ctx.shapes]
        pieces = gradients.split(sizes)
        return None, *(piece.view(shape) for piece, shape in zip(pieces, ctx.shapes, strict=True))
