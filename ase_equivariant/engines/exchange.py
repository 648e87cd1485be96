"""Which rows ghosts take from which process, and the exchange of features and gradients that follows from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]


class GhostExchange:
    """Rows of ghosts from the processes that own the atoms, and rows of ghosts back to them.

    An :class:`~ase_equivariant.architectures.Exchange` over MPI. A ghost is an atom of another process or a periodic
    image of an atom of this one; both are named by the atom's tag. Making one, and every call, is collective.

    Who owns a tag is asked of process ``tag % size``, which owners have told before: nothing grows with the number of
    all atoms.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The processes.
    local_tags, ghost_tags : array_like
        (num_local,) and (num_ghosts,) integers, positive; the ghosts in the order of their rows, any of them
        repeatedly.

    Attributes
    ----------
    num_local, num_ghosts : int
        Rows on this process.
    rows_sent, values_sent : int
        Rows that leave this process for others at every exchange, and numbers sent by all exchanges so far, both ways.

    Raises
    ------
    ValueError
        If a ghost's tag is nobody's. On one process perhaps: the others then wait for it, and it must end them.
    """

    def __init__(self, comm: Any, local_tags: NDArray[Any], ghost_tags: NDArray[Any]):
        self._comm = comm
        local, ghosts = np.asarray(local_tags, dtype=np.int64), np.asarray(ghost_tags, dtype=np.int64)
        self.num_local, self.num_ghosts = len(local), len(ghosts)
        owners, rows = self._find_owners(local, ghosts)
        order = np.argsort(owners, kind="stable")
        self._ghost_counts = np.bincount(owners, minlength=comm.size)
        self._local_counts = self._counts_of_others(self._ghost_counts)
        wanted = self._swap(rows[order], self._ghost_counts, self._local_counts)
        self._ghost_rows = torch.from_numpy(order)  # among the ghosts, in the order they are received
        self._local_rows = torch.from_numpy(wanted)  # in the order they are sent
        self.rows_sent = int(self._local_counts.sum() - self._local_counts[comm.rank])
        self.values_sent = 0

    def __call__(self, features: Tensor) -> Tensor:
        """Features of local atoms (num_local, D) and behind them those of ghosts, differentiable once."""
        extended: Tensor = _Exchanged.apply(features, self)
        return extended

    def extend(self, features: Tensor) -> Tensor:
        """Rows of all atoms, (num_local + num_ghosts, D), from those of local ones (num_local, D)."""
        sent = features.index_select(0, self._local_rows)
        received = self._swap_rows(sent, self._local_counts, self._ghost_counts)
        ghosts = received.new_empty(self.num_ghosts, features.shape[1]).index_copy_(0, self._ghost_rows, received)
        return torch.cat([features, ghosts])

    def send_home(self, rows: Tensor) -> Tensor:
        """Rows of local atoms (num_local, D) with those of their ghosts, (num_local + num_ghosts, D), added."""
        sent = rows[self.num_local :].index_select(0, self._ghost_rows)
        received = self._swap_rows(sent, self._ghost_counts, self._local_counts)
        return rows[: self.num_local].index_add(0, self._local_rows, received)

    def in_place(self, rows: NDArray[Any], gradients: bool) -> None:
        """The same in rows of all atoms, (num_local + num_ghosts, D): what :class:`NetworkRunner` asks for."""
        local, ghosts = torch.from_numpy(rows[: self.num_local]), torch.from_numpy(rows[self.num_local :])
        if gradients:
            sent = ghosts.index_select(0, self._ghost_rows)
            local.index_add_(0, self._local_rows, self._swap_rows(sent, self._ghost_counts, self._local_counts))
        else:
            sent = local.index_select(0, self._local_rows)
            ghosts.index_copy_(0, self._ghost_rows, self._swap_rows(sent, self._local_counts, self._ghost_counts))

    def _find_owners(self, local: Integers, ghosts: Integers) -> tuple[Integers, Integers]:
        """Process of each ghost and its row there."""
        size = self._comm.size
        told, told_from = self._send(local % size, np.stack([local, np.arange(len(local))], axis=1))
        by_tag = np.argsort(told[:, 0], kind="stable")
        tags, answers = told[by_tag, 0], np.stack([told_from, told[:, 1]], axis=1)[by_tag]

        order = np.argsort(ghosts % size, kind="stable")
        counts = np.bincount(ghosts % size, minlength=size)
        asked_counts = self._counts_of_others(counts)
        asked = self._swap(ghosts[order], counts, asked_counts)
        place = np.searchsorted(tags, asked)
        known = place < len(tags)
        known[known] = tags[place[known]] == asked[known]
        if not known.all():
            raise ValueError(
                f"atom {asked[~known][0]} is a ghost here but no process has it: atoms were lost, or share their IDs"
            )
        found = np.empty((len(ghosts), 2), dtype=np.int64)
        found[order] = self._swap(answers[place], asked_counts, counts)
        return found[:, 0], found[:, 1]

    def _send(self, destination: Integers, rows: Integers) -> tuple[Integers, Integers]:
        """Rows (n, k) to the process that each is for; returns those received here and where they came from."""
        counts = np.bincount(destination, minlength=self._comm.size)
        others = self._counts_of_others(counts)
        received = self._swap(rows[np.argsort(destination, kind="stable")], counts, others)
        return received, np.repeat(np.arange(self._comm.size), others)

    def _counts_of_others(self, counts: Integers) -> Integers:
        """How many rows every process sends here, from how many this one sends to each."""
        received = np.empty_like(counts)
        self._comm.Alltoall(counts, received)
        return received

    def _swap(self, rows: NDArray[Any], sent: Integers, received: Integers) -> NDArray[Any]:
        """One message between every two processes: rows (n, …) sorted by destination; what comes is so by origin."""
        width = int(np.prod(rows.shape[1:]))
        result = np.empty((int(received.sum()), *rows.shape[1:]), dtype=rows.dtype)
        self._comm.Alltoallv([np.ascontiguousarray(rows), sent * width], [result, received * width])
        return result

    def _swap_rows(self, rows: Tensor, sent: Integers, received: Integers) -> Tensor:
        self.values_sent += int(sent.sum() - sent[self._comm.rank]) * rows.shape[1]
        return torch.from_numpy(self._swap(rows.detach().cpu().numpy(), sent, received)).to(rows.device)


class _Exchanged(torch.autograd.Function):
    """``extend``, whose transpose is ``send_home``."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, exchange: GhostExchange) -> Tensor:
        ctx.exchange = exchange
        return exchange.extend(features)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.exchange.send_home(gradient), None
