"""A potential of a structure that is divided among processes, each of which computes its own atoms."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ase_equivariant.engines.domain import Domain
from ase_equivariant.engines.exchange import GhostExchange
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.fast_path import FastPath
from ase_equivariant.potential.potential import Potential, Prediction

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_VOIGT = ((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2))  # LAMMPS' order xx yy zz xy xz yz


@dataclass
class EngineStatistics:
    """What an attached potential has done on this process.

    Attributes
    ----------
    compiled : bool
        Whether compiled code evaluated the network at the last call.
    evaluations, builds : int
        Calls, and those of them that searched edges and owners of ghosts anew.
    num_local, num_ghosts, engine_ghosts : int
        Atoms at the last call: local ones, those of other processes whose features are exchanged, and all ghosts of
        the engine, images of local atoms among them.
    rows_sent : int
        Rows that one exchange sends to other processes.
    values_sent : int
        Numbers sent to other processes since the last build.
    """

    compiled: bool = False
    evaluations: int = 0
    builds: int = 0
    num_local: int = 0
    num_ghosts: int = 0
    engine_ghosts: int = 0
    rows_sent: int = 0
    values_sent: int = 0


@dataclass
class LocalResults:
    """What the atoms of this process have, and the sums over all processes.

    Attributes
    ----------
    energies : numpy.ndarray
        (n,) eV.
    forces : numpy.ndarray
        (n, 3) eV/Å.
    virials : numpy.ndarray
        (n, 6) eV: xx yy zz xy xz yz of ``−Σ r ⊗ dE/dr``, half of each edge's to either end.
    energy : float
        eV, of all atoms.
    virial : numpy.ndarray
        (6,) eV, of all atoms.
    """

    energies: Floats
    forces: Floats
    virials: Floats
    energy: float
    virial: Floats


class DividedPotential:
    """A potential evaluated by all processes together: features of others' atoms are exchanged between layers.

    Parameters
    ----------
    potential : Potential
        Not changed later.
    dtype : torch.dtype
        Of the network.
    comm : mpi4py.MPI.Comm
        The processes.
    skin : float
        Å beyond the cutoff within which pairs are kept for reuse.
    fast : bool, optional
        As :class:`~ase_equivariant.EquivariantCalculator` takes it. Compiled code is used where it agrees with the
        eager model on every process.

    Raises
    ------
    ValueError
        If ``fast`` is true and there is no compiled form of this model.
    """

    def __init__(self, potential: Potential, dtype: torch.dtype, comm: Any, skin: float, fast: bool | None = None):
        exact = deepcopy(potential).to(dtype=torch.float64).requires_grad_(False)
        self.potential = exact if dtype == torch.float64 else deepcopy(exact).to(dtype)
        self._fast = FastPath.wanted(fast, exact, dtype)
        self._comm, self._domain = comm, Domain(potential.cutoff, skin)
        self._numbers = np.empty(0, dtype=np.int64)
        self.statistics = EngineStatistics()

    def __call__(self, positions: Floats, tags: NDArray[Any], numbers: Integers, num_local: int) -> LocalResults:
        """Energies, forces and virials of local atoms; collective.

        Parameters
        ----------
        positions : numpy.ndarray
            (N, 3) Å; local atoms first, then ghosts, everything within one cutoff of a local atom.
        tags : numpy.ndarray
            (N,) positive integers that name atoms; images of an atom have its tag.
        numbers : numpy.ndarray
            (N,) nuclear charges.
        num_local : int
            Atoms that this process computes.

        Raises
        ------
        ValueError
            If two atoms are at one point, positions or results are not finite. On one process perhaps: the others
            then wait for it, and it must end them.
        """
        graph = self._graph(positions, tags, numbers, num_local)
        exchange = self._exchange if self._comm.size > 1 else None
        evaluate = self.potential if self._fast is None or self._fast.compiled is None else self._fast.compiled
        prediction: Prediction = evaluate(graph, stress=True, exchange=exchange)
        i, j = _VOIGT
        shares = torch.cat([prediction["forces"], prediction["node_virials"][:, i, j]], dim=1).to(torch.float64)
        home = (shares if exchange is None else exchange.send_home(shares)).numpy()
        energies = prediction["node_energies"].numpy()
        totals = np.empty(7)
        self._comm.Allreduce(np.array([energies.sum(), *home[:, 3:].sum(axis=0)]), totals)
        if not np.isfinite(totals).all():
            raise ValueError("the model gives energies or forces that are not finite for this structure")
        self._count(evaluate is not self.potential, num_local, len(tags) - num_local)
        return LocalResults(energies, home[:, :3], home[:, 3:], float(totals[0]), totals[1:])

    def _graph(self, positions: Floats, tags: NDArray[Any], numbers: Integers, num_local: int) -> AtomicGraph:
        is_new = not np.array_equal(numbers, self._numbers) or self._domain.is_stale(positions, tags, num_local)
        if is_new := self._any(is_new):
            self._domain.build(positions, tags, num_local)
            self._exchange = GhostExchange(self._comm, tags[:num_local], tags[self._domain.rows[num_local:]])
            self._numbers = numbers
            self.statistics.builds += 1
        rows = self._domain.rows
        edge_index, vectors = self._domain.edges(positions)
        if (at_one_point := np.flatnonzero(~vectors.any(axis=1))).size:
            place = positions[rows[edge_index[0, at_one_point[0]]]]
            raise ValueError(f"two atoms are at {place.tolist()} Å: move or remove one of them")
        graph = AtomicGraph(
            atomic_numbers=torch.from_numpy(numbers[rows]),
            edge_index=torch.from_numpy(edge_index),
            edge_vectors=torch.from_numpy(vectors),
            cell=torch.zeros(1, 3, 3),
            batch=torch.zeros(len(rows), dtype=torch.int64),
        )
        # Only elements matter to the comparison, and they change with the atoms. All or none run compiled code, whose
        # exchanges are others.
        if is_new and self._fast is not None and self._any(self._fast.for_graph(graph) is None):
            self._fast = None
        return graph

    def _any(self, here: bool) -> bool:
        """Whether it is so on one process at least."""
        flag = np.array([here], dtype=np.int64)
        everywhere = np.empty_like(flag)
        self._comm.Allreduce(flag, everywhere)
        return bool(everywhere[0])

    def _count(self, compiled: bool, num_local: int, engine_ghosts: int) -> None:
        statistics, exchange = self.statistics, self._exchange
        statistics.compiled = compiled
        statistics.evaluations += 1
        statistics.num_local, statistics.num_ghosts = num_local, exchange.num_ghosts
        statistics.engine_ghosts = engine_ghosts
        statistics.rows_sent, statistics.values_sent = exchange.rows_sent, exchange.values_sent
