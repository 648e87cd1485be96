r"""LAMMPS: molecular dynamics of structures divided among processes, through its ``fix external``.

>>> from ase_equivariant.engines.lammps import attach, start_lammps  # doctest: +SKIP
>>> lmp = start_lammps()  # doctest: +SKIP
>>> lmp.commands_string("units metal\nread_data nacl.data")  # doctest: +SKIP
>>> attach(lmp, "nacl.safetensors", ["Na", "Cl"])  # doctest: +SKIP
>>> lmp.commands_string("fix 1 all nve\nrun 100")  # doctest: +SKIP

``mpirun -n 4 python program.py`` runs it on four processes. LAMMPS gives each of them its atoms and one cutoff of
ghosts; the network exchanges features of ghosts between its layers (:mod:`ase_equivariant.engines.exchange`).
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import units
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ase_equivariant.engines.domain import Domain
from ase_equivariant.engines.exchange import GhostExchange
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.io.model_file import load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.potential.potential import Potential, UnknownElementError

_INSTALL = "pip install 'ase-equivariant[lammps]'"
# LAMMPS' unit of energy in eV; lengths are Å in both.
_ENERGY_UNITS = {"metal": 1.0, "real": units.kcal / units.mol}
_LAMMPS_SKIN = 2.0  # Å, its default in these units
_VOIGT = ((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2))  # LAMMPS' order xx yy zz xy xz yz
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def start_lammps(cmdargs: Sequence[str] = (), comm: Any = None) -> Any:
    """An instance of LAMMPS from its Python package.

    mpi4py is imported first: it finds and loads the MPI library that LAMMPS' wheel does not find by itself.

    Parameters
    ----------
    cmdargs : sequence of str
        LAMMPS' command-line switches, such as ``("-log", "none")``.
    comm : mpi4py.MPI.Comm, optional
        Default all processes.

    Raises
    ------
    ImportError
        If mpi4py, an MPI library or LAMMPS is not installed.
    """
    try:
        import_module("mpi4py.MPI")
        package = import_module("lammps")
        return package.lammps(cmdargs=list(cmdargs), comm=comm)
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(f"LAMMPS cannot be started ({error}): {_INSTALL}") from None


@dataclass
class EngineStatistics:
    """What an attached potential has done on this process.

    Attributes
    ----------
    evaluations, builds : int
        Calls, and those of them that searched edges and owners of ghosts anew.
    num_local, num_ghosts, lammps_ghosts : int
        Atoms at the last call: local ones, ghosts whose features are exchanged, and all that LAMMPS has.
    rows_sent : int
        Rows that one exchange sends to other processes.
    values_sent : int
        Numbers sent to other processes since the last build.
    """

    evaluations: int = 0
    builds: int = 0
    num_local: int = 0
    num_ghosts: int = 0
    lammps_ghosts: int = 0
    rows_sent: int = 0
    values_sent: int = 0


def attach(
    lmp: Any,
    model: str | Path | Potential,
    types: Sequence[str],
    *,
    dtype: str = "float64",
    modal: str | None = None,
    skin: float = 1.0,
    fix_id: str = "equivariant",
) -> EngineStatistics:
    """Let LAMMPS take energies, forces and virials of all atoms from a model; collective.

    Defines ``fix FIX_ID all external``, whose energy and virial count in thermodynamic output, minimization and
    pressure, and by atom in ``compute pe/atom`` and ``compute stress/atom``. Where no pair style is defined,
    ``pair_style zero`` makes LAMMPS communicate one cutoff of ghosts. With another one, which then adds its energy,
    ``neighbor 2.0 bin`` and ``comm_modify cutoff`` do.

    An error while LAMMPS runs ends all processes with one message.

    Parameters
    ----------
    lmp : lammps.lammps
        With a simulation box, in units metal or real; from :func:`start_lammps`, or any other with MPI.
    model : str, Path or Potential
        As :class:`~ase_equivariant.EquivariantCalculator` takes it.
    types : sequence of str
        Chemical symbol of every atom type of LAMMPS, in order.
    dtype : {"float64", "float32"}
        Precision of the network; energies are summed in float64.
    modal : str, optional
        Level of theory of a multi-fidelity model.
    skin : float
        Å beyond the cutoff within which pairs are kept for reuse.
    fix_id : str
        Name of the fix.

    Returns
    -------
    EngineStatistics
        Kept up to date.

    Raises
    ------
    ValueError
        For elements that the model does not know, other units, a wrong number of types, and no box.
    """
    comm = lmp.get_mpi_comm()
    if comm is None:
        raise ValueError(f"this LAMMPS has no MPI or Python has no mpi4py: {_INSTALL}")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype!r} is not supported: choose 'float32' or 'float64'")
    if not lmp.extract_setting("box_exist"):
        raise ValueError(
            "LAMMPS has no simulation box yet: attach the model after read_data, read_restart or create_box"
        )
    system = lmp.extract_global("units")
    if system not in _ENERGY_UNITS:
        raise ValueError(f"LAMMPS runs in units {system}: choose {' or '.join(_ENERGY_UNITS)}, whose lengths are Å")
    if len(types) != (count := lmp.extract_global("ntypes")):
        raise ValueError(
            f"{len(types)} chemical symbols ({' '.join(types)}) for LAMMPS' {count} atom types: give {count}"
        )
    potential = _load(model, modal).to(_DTYPES[dtype]).requires_grad_(False)
    if unknown := [symbol for symbol in types if symbol not in potential.species]:
        raise UnknownElementError(
            f"this model does not know {', '.join(unknown)}: it was made for {', '.join(potential.species)}"
        )
    if comm.size > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # processes share the cores already
    if lmp.extract_global("pair_style") == "none":
        lmp.commands_list([f"pair_style zero {potential.cutoff!r}", "pair_coeff * *"])
    else:
        reach = potential.cutoff + _LAMMPS_SKIN
        lmp.commands_list([f"neighbor {_LAMMPS_SKIN} bin", f"comm_modify cutoff {reach!r}"])
    lmp.commands_list([f"fix {fix_id} all external pf/callback 1 1", f"fix_modify {fix_id} energy yes virial yes"])
    numbers = np.array([0, *(atomic_numbers[symbol] for symbol in types)])
    engine = _Engine(lmp, comm, potential, numbers, skin, fix_id, _ENERGY_UNITS[system])
    lmp.set_fix_external_callback(fix_id, engine.callback, None)
    return engine.statistics


def _load(model: str | Path | Potential, modal: str | None) -> Potential:
    if not isinstance(model, Potential):
        return load_model(resolve(model, modal)).potential
    if modal is not None:
        raise ValueError(f"a Potential has one level of theory: leave out modal={modal!r}")
    return deepcopy(model)


class _Engine:
    """What happens at every step."""

    def __init__(
        self,
        lmp: Any,
        comm: Any,
        potential: Potential,
        numbers: NDArray[np.int64],
        skin: float,
        fix_id: str,
        energy_unit: float,
    ):
        self.lmp, self.comm, self.potential, self.fix_id = lmp, comm, potential, fix_id
        self.numbers, self.energy_unit = numbers, energy_unit
        self.domain = Domain(potential.cutoff, skin)
        self.statistics = EngineStatistics()

    def callback(self, caller: Any, step: int, num_local: int, tags: Any, positions: Any, forces: Any) -> None:
        """Fill in ``forces`` (num_local, 3), energies and virials; LAMMPS calls it after its own forces.

        An exception cannot pass through LAMMPS, and on one process of many it would leave the others waiting.
        """
        try:
            self._evaluate(num_local, forces)
        except BaseException as error:
            if not isinstance(error, ValueError):
                traceback.print_exc()
            print(f"error in step {step}, process {self.comm.rank}: {error or type(error).__name__}", file=sys.stderr)
            sys.stderr.flush()
            self.comm.Abort(1)

    def _evaluate(self, num_local: int, forces: Any) -> None:
        num_all = num_local + self.lmp.extract_global("nghost")
        positions, tags = self._rows("x", num_all, 3), self._rows("id", num_all)
        if self.comm.allreduce(int(self.domain.is_stale(positions, tags, num_local))):
            self.domain.build(positions, tags, num_local)
            self.exchange = GhostExchange(self.comm, tags[:num_local], tags[self.domain.rows[num_local:]])
            self.statistics.builds += 1
        graph = self._graph(positions, self._rows("type", num_all))
        prediction = self.potential(graph, stress=True, exchange=self.exchange)
        i, j = _VOIGT
        shares = torch.cat([prediction["forces"], prediction["node_virials"][:, i, j]], dim=1).to(torch.float64)
        home = self.exchange.send_home(shares).numpy() / self.energy_unit
        energies = prediction["node_energies"].numpy() / self.energy_unit
        totals = np.empty(7)
        self.comm.Allreduce(np.array([energies.sum(), *home[:, 3:].sum(axis=0)]), totals)
        if not np.isfinite(totals).all():
            raise ValueError("the model gives energies or forces that are not finite for this structure")
        if num_local:
            forces[:] = home[:, :3]
        self._hand_over(totals, energies, home[:, 3:])
        self._count(num_local, num_all)

    def _rows(self, name: str, count: int, *width: int) -> NDArray[Any]:
        """A per-atom array of LAMMPS for local atoms and ghosts; where there are none, LAMMPS may have no array."""
        if count == 0:
            return np.empty((0, *width), dtype=np.float64 if width else np.int64)
        rows: NDArray[Any] = self.lmp.numpy.extract_atom(name, nelem=count)
        return rows

    def _graph(self, positions: NDArray[np.float64], types: NDArray[Any]) -> AtomicGraph:
        edge_index, vectors = self.domain.edges(positions)
        if (at_one_point := np.flatnonzero(~vectors.any(axis=1))).size:
            place = positions[self.domain.rows[edge_index[0, at_one_point[0]]]]
            raise ValueError(f"two atoms are at {place.tolist()} Å: move or remove one of them")
        rows = self.domain.rows
        return AtomicGraph(
            atomic_numbers=torch.from_numpy(self.numbers[types[rows]]),
            edge_index=torch.from_numpy(edge_index),
            edge_vectors=torch.from_numpy(vectors),
            cell=torch.zeros(1, 3, 3),
            batch=torch.zeros(len(rows), dtype=torch.int64),
        )

    def _hand_over(self, totals: NDArray[Any], energies: NDArray[Any], virials: NDArray[Any]) -> None:
        """Totals, the same on every process, and shares of local atoms, (n,) and (n, 6)."""
        self.lmp.fix_external_set_energy_global(self.fix_id, float(totals[0]))
        self.lmp.fix_external_set_virial_global(self.fix_id, totals[1:].tolist())
        # The package's own functions for shares copy them number by number.
        lib, name, double = self.lmp.lib, self.fix_id.encode(), ctypes.POINTER(ctypes.c_double)
        energies, virials = np.ascontiguousarray(energies), np.ascontiguousarray(virials)
        lib.lammps_fix_external_set_energy_peratom(self.lmp.lmp, name, energies.ctypes.data_as(double))
        rows = virials.ctypes.data + virials.strides[0] * np.arange(len(virials), dtype=np.uintp)
        lib.lammps_fix_external_set_virial_peratom(self.lmp.lmp, name, rows.ctypes.data_as(ctypes.POINTER(double)))

    def _count(self, num_local: int, num_all: int) -> None:
        statistics, exchange = self.statistics, self.exchange
        statistics.evaluations += 1
        statistics.num_local, statistics.num_ghosts = num_local, exchange.num_ghosts
        statistics.lammps_ghosts = num_all - num_local
        statistics.rows_sent, statistics.values_sent = exchange.rows_sent, exchange.values_sent
