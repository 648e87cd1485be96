"""The .npz files of MD17 and its relatives."""

from __future__ import annotations

import pickle
from collections.abc import Container
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from ase import Atoms

from ase_equivariant.training.frames import Frame
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.readout_labels import as_label

# Which array holds what, by data set: positions, nuclear charges, energies, forces.
_REVISED = ("coords", "nuclear_charges", "energies", "forces")
_ORIGINAL = ("coords", "nuclear_charges", "old_energies", "old_forces")
_CLASSIC = ("R", "z", "E", "F")


def read_npz(path: Path, config: LabelConfig) -> list[Frame]:
    """Read frames in the file's own units.

    Understands revised MD17 (``coords``, ``nuclear_charges``, ``energies``, ``forces``, and
    ``old_energies``, ``old_forces`` for ``labels="original"``), MD17 (``R``, ``z``, ``E``,
    ``F``), and arrays of arrays where molecules differ in size; energies, forces and dipoles (frames, 3) by the
    names that ``config`` gives, too.

    Raises
    ------
    ValueError
        If the file is damaged, or the arrays are not there, do not fit each other or hold anything but numbers; or if
        other labels are asked for by name.
    """
    _refuse_other_names(path, config)
    try:
        arrays = _load(path)
    except _RefusedError:
        raise
    except Exception as error:  # what is damaged makes zipfile, zlib, numpy and pickle stumble in any way
        raise ValueError(f"{path}: not a whole npz file ({type(error).__name__}: {error})") from None
    names, dipole_key = names_of(arrays, config), config.dipole_key
    wanted = (*names[:3], *(name for name in (config.forces_key, dipole_key) if name is not None))
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise ValueError(f"{path}: no array {' nor '.join(map(repr, missing))}; it has {', '.join(arrays)}")
    arrays = {name: np.atleast_1d(array) for name, array in arrays.items()}
    count, numbers = len(arrays[names[0]]), arrays[names[1]]
    shared = numbers.ndim == 1 and numbers.dtype != object  # one molecule throughout
    for name in (*(() if shared else names[1:2]), *names[2:], *([dipole_key] if dipole_key else [])):
        if name in arrays and len(arrays[name]) != count:
            raise ValueError(f"{path}: {count} structures but {len(arrays[name])} {name}")
    frames = []
    for k in range(count):
        try:
            frames.append(_frame(arrays, names, k, numbers if shared else numbers[k], dipole_key))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: structure {k}: arrays of wrong shapes or of no numbers ({error})") from None
    return frames


def _frame(
    arrays: dict[str, np.ndarray], names: tuple[str, str, str, str], k: int, numbers: Any, dipole_key: str | None
) -> Frame:
    coords, _, energies, forces = names
    atoms = Atoms(numbers=numbers, positions=np.asarray(arrays[coords][k], dtype=float))
    energy = float(np.asarray(arrays[energies][k], dtype=float).reshape(()))
    own_forces = np.asarray(arrays[forces][k], dtype=float) if forces in arrays else None
    readouts = {"dipole": as_label("dipole", arrays[dipole_key][k], False, len(atoms))} if dipole_key else {}
    return Frame(atoms, energy, own_forces, readouts=readouts)


def names_of(arrays: Container[str], config: LabelConfig) -> tuple[str, str, str, str]:
    """Which arrays hold positions, nuclear charges, energies and forces."""
    usual = _CLASSIC if "R" in arrays else (_ORIGINAL if config.labels == "original" else _REVISED)
    return usual[0], usual[1], config.energy_key or usual[2], config.forces_key or usual[3]


def _refuse_other_names(path: Path, config: LabelConfig) -> None:
    """Labels that these files do not have would be left out in silence."""
    asked = {name: getattr(config, name) for name in ("stress_key", "virial_key", "polarizability_key", "charges_key")}
    asked |= {f"readout_keys.{name}": key for name, key in config.readout_keys.items()}
    for name, key in asked.items():
        if key is not None:
            raise ValueError(
                f"{path}: {name} = {key!r}: of an npz file energies, forces and dipoles are read; "
                "leave it out, or keep the structures as extended XYZ"
            )


def _load(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as stream:
                arrays[member.removesuffix(".npy")] = _read_array(stream, path, member)
    return arrays


def _read_array(stream: IO[bytes], path: Path, member: str) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        try:
            return _NumbersOnly(stream).load()
        except pickle.UnpicklingError as error:
            raise _RefusedError(f"{path}: {member} {error}") from None
    flat = np.frombuffer(stream.read(), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")


class _RefusedError(ValueError):
    """An array that is not one of numbers."""


class _NumbersOnly(pickle.Unpickler):
    """Arrays of arrays are stored pickled; this loads arrays of numbers and refuses everything else."""

    _ALLOWED = frozenset(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
    ) | {("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"holds {module}.{name}, which is not an array of numbers: refused")
        return super().find_class(module, name)
