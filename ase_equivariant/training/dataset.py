"""Frames to tensors, once; batches by concatenation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.readout_labels import LabelTensor, collate_labels, to_tensors
from ase_equivariant.training.sharing import divide


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
        """Join batches into one."""
        labels = {name: torch.cat([getattr(sample, name) for sample in samples]) for name in _LABELS}
        graphs = [sample.graph for sample in samples]
        sizes = [graph.num_structures for graph in graphs], [graph.num_atoms for graph in graphs]
        readouts = collate_labels([sample.readouts for sample in samples], *sizes)
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


def make_samples(frames: Sequence[Frame], cutoff: float, dtype: torch.dtype) -> list[Batch]:
    """Every frame's graph and labels, to be held in memory for the whole run."""
    samples = [to_batch(frame, cutoff, dtype) for frame in frames]
    if not any(sample.graph.num_edges for sample in samples):
        raise DataError(
            f"no two atoms are closer than the cutoff of {cutoff} Å in any structure: check units and cutoff"
        )
    return samples


def mean_neighbors(samples: Sequence[Batch]) -> float:
    """Mean number of neighbours of an atom, ⟨E/N⟩ over all structures together."""
    return sum(s.graph.num_edges for s in samples) / sum(s.graph.num_atoms for s in samples)


class EpochLoader:
    """Batches of one epoch after another, in an order that only ``seed`` and the epoch decide.

    Several processes get the same batches, each its share of every one, with about as many edges as the others'.
    Where a batch has fewer structures than there are processes, the rest get one without labels, so that all take
    as many steps.

    Parameters
    ----------
    samples : sequence of Batch
        One structure each.
    batch_size : int
        Structures in a batch, all processes together; the last of an epoch may be smaller.
    seed : int or None
        None keeps the order of ``samples``.
    replay, replay_fraction : sequence of Batch, float
        Further structures that are mixed into every batch, as many as make up this fraction of it.
    rank, world_size : int
        Which of how many processes this is.

    Raises
    ------
    DataError
        If there are too few structures to replay, or no room for them.

    Attributes
    ----------
    epoch : int
        The epoch that iterating gives next.
    skip : int
        How many of its first batches to leave out, trained on before a kill.
    """

    def __init__(
        self,
        samples: Sequence[Batch],
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        replay: Sequence[Batch] = (),
        replay_fraction: float = 0.0,
    ):
        self.replay = replay
        self.num_replay = replay_count(batch_size, replay_fraction) if replay else 0
        self.samples, self.batch_size, self.seed = samples, batch_size - self.num_replay, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.skip = 0
        if replay and batch_size < 2:
            raise DataError(f"run.batch_size = {batch_size} has no room for replayed structures: make it 2 or more")
        if self.num_replay > len(replay):
            raise DataError(
                f"finetune.replay has {len(replay)} structures, but {self.num_replay} are mixed into each batch of "
                f"{batch_size}: add structures, or lower finetune.replay.fraction or run.batch_size"
            )

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a whole epoch."""
        return -(-len(self.samples) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.arange(len(self.samples))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
            order = torch.randperm(len(self.samples), generator=generator)
        chunks = order.split(self.batch_size)
        for number in range(self.skip, self.batches_per_epoch):
            again = [self.replay[k] for k in self._replayed(number)]
            yield Batch.collate(self._share([*(self.samples[k] for k in chunks[number].tolist()), *again]))

    def _share(self, batch: list[Batch]) -> list[Batch]:
        """This process's structures of a batch."""
        if self.world_size == 1:
            return batch
        edges = [sample.graph.num_edges for sample in batch]
        mine = divide(edges, self.world_size)[self.rank]
        return [batch[k] for k in mine] or [batch[edges.index(min(edges))].unlabelled()]

    def _replayed(self, number: int) -> list[int]:
        """Which replayed structures are in a batch of the epoch: drawn anew for each batch, without repetition."""
        if not self.num_replay:
            return []
        generator = torch.Generator().manual_seed(_mix(_mix(self.seed or 0, self.epoch), number))
        return torch.randperm(len(self.replay), generator=generator)[: self.num_replay].tolist()


def replay_count(batch_size: int, fraction: float) -> int:
    """How many replayed structures make up a fraction of a batch: at least one, and not all of it."""
    return min(batch_size - 1, max(1, round(batch_size * fraction)))


def _mix(seed: int, epoch: int) -> int:
    """One number from two, so that epoch 1 of seed 0 is not epoch 0 of seed 1."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
