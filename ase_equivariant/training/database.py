"""Labelled structures as a database, which training reads one by one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.stress import full_3x3_to_voigt_6_stress

from ase_equivariant.graph.convert import total_charge
from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import DATABASES, UNITS_NOTE, DataError, no_lmdb
from ase_equivariant.training.readout_labels import centre_of_mass

_TENSORS = ("polarizability", "born_effective_charges")


def write_database(path: str | Path, frames: Iterable[Frame]) -> int:
    """Write frames, in eV and Å and under ASE's names, to an ASE database, whole or not at all.

    Polarizabilities and Born effective charges are there under these names, so that training finds them with
    ``polarizability_key = "polarizability"`` and ``readout_keys.born_effective_charges = "born_effective_charges"``.

    Parameters
    ----------
    path : str or Path
        ``.db`` or ``.aselmdb``; replaced if there.
    frames : iterable of Frame
        Taken one by one.

    Returns
    -------
    int
        How many there were.

    Raises
    ------
    DataError
        If the file's ending is another, there is no frame, or one has labels of the user's own, which a database
        does not keep apart from others.
    """
    target = Path(path)
    if target.suffix not in DATABASES:
        raise DataError(f"{path} is no name of a database: let it end in {' or '.join(DATABASES)}")
    count = 0
    with atomic_path(target) as temporary:
        try:
            with connect(temporary, append=False) as database:
                database.metadata = {UNITS_NOTE: "eV and Å"}
                for count, frame in enumerate(frames, 1):  # noqa: B007 - the last is the number of all
                    database.write(_with_results(frame), **_row(frame))
        except ImportError:
            raise no_lmdb(target) from None
        finally:
            Path(f"{temporary}-lock").unlink(missing_ok=True)  # LMDB's
        if not count:
            raise DataError(f"{path}: there are no structures to write")
    return count


def _with_results(frame: Frame) -> Atoms:
    atoms = frame.atoms.copy()
    results: dict[str, Any] = {"energy": frame.energy, "forces": frame.forces}
    if frame.stress is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(frame.stress)
    if "charges" in frame.readouts:
        results["charges"] = frame.readouts["charges"].values
    if "dipole" in frame.readouts:  # files have it about the origin
        results["dipole"] = frame.readouts["dipole"].values + total_charge(atoms) * centre_of_mass(atoms)
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in results.items() if value is not None})
    return atoms


def _row(frame: Frame) -> dict[str, Any]:
    unknown = [name for name in frame.readouts if name not in ("charges", "dipole", *_TENSORS)]
    if unknown:
        raise DataError(f"labels {', '.join(unknown)} cannot be kept in a database: leave them out")
    data = {name: frame.readouts[name].values for name in _TENSORS if name in frame.readouts}
    return {"data": {**{str(key): value for key, value in frame.atoms.info.items()}, **data}}
