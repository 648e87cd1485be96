"""The .npz files of MD17 and its relatives."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Container
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms

from ase_equivariant.training.frames import Frame, Label

# Which array holds what, by data set: positions, nuclear charges, energies, forces.
_REVISED = ("coords", "nuclear_charges", "energies", "forces")
_ORIGINAL = ("coords", "nuclear_charges", "old_energies", "old_forces")
_CLASSIC = ("R", "z", "E", "F")


def read_npz(path: Path, labels: str = "revised", dipole_key: str | None = None) -> list[Frame]:
    """Read frames in the file's own units.

    Understands revised MD17 (``coords``, ``nuclear_charges``, ``energies``, ``forces``, and
    ``old_energies``, ``old_forces`` for ``labels="original"``), MD17 (``R``, ``z``, ``E``,
    ``F``), and arrays of arrays where molecules differ in size; and dipoles (frames, 3) by the name given.

    Raises
    ------
    ValueError
        If the arrays are not there, or hold anything but numbers.
    """
    try:
        arrays = _load(path)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"{path}: not a whole npz file ({error})") from None
    names = names_of(arrays, labels)
    missing = [name for name in (*names[:3], *([dipole_key] if dipole_key else [])) if name not in arrays]
    if missing:
        raise ValueError(f"{path}: no array {' nor '.join(map(repr, missing))}; it has {', '.join(arrays)}")
    coords, numbers, energies = (arrays[name] for name in names[:3])
    forces = arrays.get(names[3])
    energies = np.asarray(energies, dtype=float).reshape(-1)
    if len(coords) != len(energies):
        raise ValueError(f"{path}: {len(coords)} structures but {len(energies)} energies")
    shared = numbers.ndim == 1 and numbers.dtype != object  # one molecule throughout
    frames = []
    for k, (positions, energy) in enumerate(zip(coords, energies, strict=True)):
        atoms = Atoms(numbers=numbers if shared else numbers[k], positions=np.asarray(positions, dtype=float))
        frame_forces = None if forces is None else np.asarray(forces[k], dtype=float)
        readouts = {"dipole": Label(np.asarray(arrays[dipole_key][k], dtype=float), False)} if dipole_key else {}
        frames.append(Frame(atoms, float(energy), frame_forces, readouts=readouts))
    return frames


def names_of(arrays: Container[str], labels: str = "revised") -> tuple[str, str, str, str]:
    """Which arrays hold positions, nuclear charges, energies and forces."""
    return _CLASSIC if "R" in arrays else (_ORIGINAL if labels == "original" else _REVISED)


def _load(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
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
            raise ValueError(f"{path}: {member} {error}") from None
    flat = np.frombuffer(stream.read(), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")


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
