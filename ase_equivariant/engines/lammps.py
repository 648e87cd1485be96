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
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from ase import units
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ase_equivariant.engines.divided import DividedPotential, EngineStatistics, LocalResults
from ase_equivariant.io.open_model import open_model
from ase_equivariant.potential.potential import Potential, UnknownElementError
from ase_equivariant.precision import parse_dtype

_INSTALL = "pip install 'ase-equivariant[lammps]'"
# LAMMPS' unit of energy in eV; lengths are Å in both.
_ENERGY_UNITS = {"metal": 1.0, "real": units.kcal / units.mol}
_LAMMPS_SKIN = 2.0  # Å, its default in these units


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


def attach(
    lmp: Any,
    model: str | Path | Potential,
    types: Sequence[str],
    *,
    dtype: str = "float64",
    modal: str | None = None,
    skin: float = 1.0,
    fast: bool | None = None,
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
    fast : bool, optional
        Whether compiled code evaluates the model; default where that is possible, on all processes or on none.
    fix_id : str
        Name of the fix.

    Returns
    -------
    EngineStatistics
        Kept up to date.

    Raises
    ------
    ValueError
        For elements that the model does not know, other units, a wrong number of types, no box, and ``fast=True``
        for what has no compiled code.
    """
    comm = lmp.get_mpi_comm()
    if comm is None:
        raise ValueError(f"this LAMMPS has no MPI or Python has no mpi4py: {_INSTALL}")
    precision = parse_dtype(dtype)
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
    potential, _ = open_model(model, modal)
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
    divided = DividedPotential(potential, precision, comm, skin, fast)
    engine = _Engine(lmp, comm, divided, numbers, fix_id, _ENERGY_UNITS[system])
    lmp.set_fix_external_callback(fix_id, engine.callback, None)
    return divided.statistics


def end_all(comm: Any, message: str) -> NoReturn:
    """Say why on stderr and end all processes, this one at once: MPI_Abort may return before they are killed."""
    print(message, file=sys.stderr, flush=True)
    time.sleep(1)  # mpirun drops what it has not read of its processes' output by the time one of them aborts
    comm.Abort(1)
    os._exit(1)


class _Engine:
    """What happens at every step."""

    def __init__(
        self,
        lmp: Any,
        comm: Any,
        potential: DividedPotential,
        numbers: NDArray[np.int64],
        fix_id: str,
        energy_unit: float,
    ):
        self.lmp, self.comm, self.potential, self.fix_id = lmp, comm, potential, fix_id
        self.numbers, self.energy_unit = numbers, energy_unit

    def callback(self, caller: Any, step: int, num_local: int, tags: Any, positions: Any, forces: Any) -> None:
        """Fill in ``forces`` (num_local, 3), energies and virials; LAMMPS calls it after its own forces.

        An exception cannot pass through LAMMPS, and on one process of many it would leave the others waiting.
        """
        try:
            self._evaluate(num_local, forces)
        except BaseException as error:
            if not isinstance(error, ValueError):
                traceback.print_exc()
            end_all(self.comm, f"error in step {step}, process {self.comm.rank}: {error or type(error).__name__}")

    def _evaluate(self, num_local: int, forces: Any) -> None:
        num_all = num_local + self.lmp.extract_global("nghost")
        positions, tags = self._rows("x", num_all, 3), self._rows("id", num_all)
        results = self.potential(positions, tags, self.numbers[self._rows("type", num_all)], num_local)
        if num_local:
            np.divide(results.forces, self.energy_unit, out=forces)
        self._hand_over(results)

    def _rows(self, name: str, count: int, *width: int) -> NDArray[Any]:
        """A per-atom array of LAMMPS for local atoms and ghosts; where there are none, LAMMPS may have no array."""
        if count == 0:
            return np.empty((0, *width), dtype=np.float64 if width else np.int64)
        rows: NDArray[Any] = self.lmp.numpy.extract_atom(name, nelem=count)
        return rows

    def _hand_over(self, results: LocalResults) -> None:
        """Totals, the same on every process, and shares of local atoms."""
        unit, lmp, name = self.energy_unit, self.lmp, self.fix_id
        lmp.fix_external_set_energy_global(name, results.energy / unit)
        lmp.fix_external_set_virial_global(name, (results.virial / unit).tolist())
        # The package's own functions for shares copy them number by number.
        fix, double = name.encode(), ctypes.POINTER(ctypes.c_double)
        energies, virials = np.ascontiguousarray(results.energies / unit), np.ascontiguousarray(results.virials / unit)
        lmp.lib.lammps_fix_external_set_energy_peratom(lmp.lmp, fix, energies.ctypes.data_as(double))
        rows = virials.ctypes.data + virials.strides[0] * np.arange(len(virials), dtype=np.uintp)
        lmp.lib.lammps_fix_external_set_virial_peratom(lmp.lmp, fix, rows.ctypes.data_as(ctypes.POINTER(double)))
