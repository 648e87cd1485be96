"""Which batches an epoch has, and which part of each a process gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ase_equivariant.training.dataset import Batch, sizes_of
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.sharing import divide
from ase_equivariant.training.streaming import OnDemand, ahead


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
        return ahead(self._batches()) if isinstance(self.samples, OnDemand) else self._batches()

    def _batches(self) -> Iterator[Batch]:
        order = torch.arange(len(self.samples))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
            order = torch.randperm(len(self.samples), generator=generator)
        chunks = order.split(self.batch_size)
        for number in range(self.skip, self.batches_per_epoch):
            yield Batch.collate(self._share(chunks[number].tolist(), self._replayed(number)))

    def _share(self, new: list[int], again: list[int]) -> list[Batch]:
        """This process's structures of a batch."""
        batch = [(self.samples, k) for k in new] + [(self.replay, k) for k in again]
        if self.world_size == 1:
            return [samples[k] for samples, k in batch]
        edges = np.concatenate([sizes_of(self.samples, new), sizes_of(self.replay, again)])[:, 0].tolist()
        mine = divide(edges, self.world_size)[self.rank]
        if mine:
            return [samples[k] for samples, k in (batch[item] for item in mine)]
        samples, k = batch[edges.index(min(edges))]
        return [samples[k].unlabelled()]

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
