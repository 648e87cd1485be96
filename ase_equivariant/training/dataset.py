"""Frames to tensors; batches by concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.readout_labels import LabelTensor, collate_labels, to_tensors
from ase_equivariant.training.streaming import OnDemand


@dataclass(frozen=True)
class Batch:
    """Graphs with labels. A label that is missing is zero and masked out.

    Attributes
    ----------
    graph : AtomicGraph
        S structures.
    energy : Tensor
        (S,) float64, eV.
    forces : Tensor
        (N, 3), eV/Å.
    stress : Tensor
        (S, 3, 3), eV/Å³.
    has_energy, has_forces, has_stress : Tensor
        (S,), (N,) and (S,) bool.
    num_atoms : Tensor
        (S,) int64.
    replayed : Tensor
        (S,) bool: structures of what the initial model knew, which may have weights of their own in the loss.
    readouts : dict of LabelTensor
        Labels of other read-outs.
    """

    graph: AtomicGraph
    energy: Tensor
    forces: Tensor
    stress: Tensor
    has_energy: Tensor
    has_forces: Tensor
    has_stress: Tensor
    num_atoms: Tensor
    replayed: Tensor
    readouts: dict[str, LabelTensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in _LABELS}
        readouts = {name: label.to(device) for name, label in self.readouts.items()}
        return replace(self, graph=self.graph.to(device), readouts=readouts, **moved)

    @staticmethod
    def collate(samples: Sequence[Batch]) -> Batch:
        """Join batches into one.

        Raises
        ------
        DataError
            If labels of a read-out have different shapes.
        """
        labels = {name: torch.cat([getattr(sample, name) for sample in samples]) for name in _LABELS}
        graphs = [sample.graph for sample in samples]
        sizes = [graph.num_structures for graph in graphs], [graph.num_atoms for graph in graphs]
        try:
            readouts = collate_labels([sample.readouts for sample in samples], *sizes)
        except ValueError as error:
            raise DataError(str(error)) from None
        return Batch(graph=AtomicGraph.collate(graphs), readouts=readouts, **labels)

    def unlabelled(self) -> Batch:
        """The same structures with every label masked out: they add nothing to a loss or its gradient."""
        masks = {name: torch.zeros_like(getattr(self, name)) for name in _MASKS}
        return replace(self, graph=self.graph, readouts={}, **masks)


_MASKS = ("has_energy", "has_forces", "has_stress")
_LABELS = ("energy", "forces", "stress", "has_energy", "has_forces", "has_stress", "num_atoms", "replayed")


def to_batch(frame: Frame, cutoff: float, dtype: torch.dtype, device: torch.device | str = "cpu") -> Batch:
    """One frame as a batch of one; edge vectors are computed in float64 and then rounded to ``dtype``."""
    atoms = frame.atoms
    graph = atoms_to_graph(atoms, cutoff, dtype=torch.float64).to(device, dtype)
    n = len(atoms)
    has_stress = frame.stress is not None and atoms.cell.rank == 3
    return Batch(
        graph=graph,
        energy=torch.tensor([frame.energy or 0.0], dtype=torch.float64, device=device),
        forces=torch.as_tensor(np.zeros((n, 3)) if frame.forces is None else frame.forces).to(device, dtype),
        stress=torch.as_tensor(frame.stress if has_stress else np.zeros((3, 3))).unsqueeze(0).to(device, dtype),
        has_energy=torch.tensor([frame.energy is not None], device=device),
        has_forces=torch.full((n,), frame.forces is not None, device=device),
        has_stress=torch.tensor([has_stress], device=device),
        num_atoms=torch.tensor([n], device=device),
        replayed=torch.tensor([False], device=device),
        readouts={name: label.to(device) for name, label in to_tensors(frame.readouts).items()},
    )


class StreamedSamples(OnDemand[Batch]):
    """Graphs and labels of frames, made whenever they are asked for.

    Parameters
    ----------
    frames : sequence of Frame
        Read when their turn comes.
    cutoff : float
        Å.
    dtype : torch.dtype
        Of edge vectors and labels.
    """

    def __init__(self, frames: Sequence[Frame], cutoff: float, dtype: torch.dtype):
        super().__init__(len(frames), lambda k: to_batch(frames[k], cutoff, dtype))

    @cached_property
    def sizes(self) -> np.ndarray:
        """Edges and atoms of each structure, (n, 2), from going through all of them once."""
        return np.array([(sample.graph.num_edges, sample.graph.num_atoms) for sample in self], dtype=np.int32)


def make_samples(frames: Sequence[Frame], cutoff: float, dtype: torch.dtype) -> Sequence[Batch]:
    """Every frame's graph and labels, held in memory for the whole run unless the frames are not, either."""
    if isinstance(frames, OnDemand):
        return StreamedSamples(frames, cutoff, dtype)
    return [to_batch(frame, cutoff, dtype) for frame in frames]


def make_training_samples(frames: Sequence[Frame], cutoff: float, dtype: torch.dtype) -> Sequence[Batch]:
    """The same of training structures, which must have neighbours to learn of.

    Raises
    ------
    DataError
        If no two atoms are neighbours.
    """
    samples = make_samples(frames, cutoff, dtype)
    if not any(sample.graph.num_edges for sample in samples):
        raise DataError(
            f"no two atoms are closer than the cutoff of {cutoff} Å in any training structure: check units and cutoff"
        )
    return samples


def sizes_of(samples: Sequence[Batch], indices: Sequence[int] | None = None) -> np.ndarray:
    """Edges and atoms of samples, (n, 2); by default of all."""
    if isinstance(samples, StreamedSamples):
        return samples.sizes if indices is None else samples.sizes[list(indices)]
    found = samples if indices is None else [samples[k] for k in indices]
    return np.array([(sample.graph.num_edges, sample.graph.num_atoms) for sample in found]).reshape(-1, 2)


def mean_neighbors(samples: Sequence[Batch]) -> float:
    """Mean number of neighbours of an atom, ⟨E/N⟩ over all structures together."""
    edges, atoms = sizes_of(samples).sum(axis=0, dtype=np.int64)
    return float(edges / atoms)
