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
from ase_equivariant.training.readout_labels import as_label, keys_of

# Which array holds what, by data set: positions, nuclear charges, energies, forces.
_REVISED = ("coords", "nuclear_charges", "energies", "forces")
_ORIGINAL = ("coords", "nuclear_charges", "old_energies", "old_forces")
_CLASSIC = ("R", "z", "E", "F")


def read_npz(
    path: Path, config: LabelConfig, *, labelled: bool = True, of_atoms: Container[str] | None = None
) -> list[Frame]:
    """Read frames in the file's own units; not ``labelled``, structures and charges only, whatever else there is.

    Understands revised MD17 (``coords``, ``nuclear_charges``, ``energies``, ``forces``, and
    ``old_energies``, ``old_forces`` for ``labels="original"``), MD17 (``R``, ``z``, ``E``,
    ``F``), and arrays of arrays where molecules differ in size; energies, forces and read-outs (frames, …) or, by atom,
    (frames, atoms, …) by the names that ``config`` gives, too; and charges of structures, one number or (frames,).
    The user's own read-outs are by atom if ``of_atoms`` has their names; if it is not given, where they have a row for
    each atom, which a (frames, 3, 3) of three atoms has, too, and (frames, atoms) has not.

    Raises
    ------
    ValueError
        If the file is damaged, or the arrays are not there, do not fit each other or hold anything but numbers; or if
        stress is asked for by name.
    """
    _refuse_stress(path, config)
    try:
        arrays = _load(path)
    except _RefusedError:
        raise
    except Exception as error:  # what is damaged makes zipfile, zlib, numpy and pickle stumble in any way
        raise ValueError(f"{path}: not a whole npz file ({type(error).__name__}: {error})") from None
    names, readouts = names_of(arrays, config), keys_of(config) if labelled else {}
    named = (names[2], *((config.forces_key,) if config.forces_key else ()), *readouts.values())
    wanted = (*names[:2], *(named if labelled else ()))
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise ValueError(f"{path}: no array {' nor '.join(map(repr, missing))}; it has {', '.join(arrays)}")
    arrays = {name: np.atleast_1d(array) for name, array in arrays.items()}
    count, numbers = len(arrays[names[0]]), arrays[names[1]]
    shared = numbers.ndim == 1 and numbers.dtype != object  # one molecule throughout
    for name in (*(() if shared else names[1:2]), *(names[2:] if labelled else ()), *readouts.values()):
        if name in arrays and len(arrays[name]) != count:
            raise ValueError(f"{path}: {count} structures but {len(arrays[name])} {name}")
    charges = _charges(arrays, config.charge_key, count, path)
    frames = []
    for k in range(count):
        try:
            positions = np.asarray(arrays[names[0]][k], dtype=float)
            frame = Frame(Atoms(numbers=numbers if shared else numbers[k], positions=positions))
            own = {name: arrays[key][k] for name, key in readouts.items()}
            frames.append(_label(frame, arrays, names, own, k, of_atoms) if labelled else frame)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: structure {k}: arrays of wrong shapes or of no numbers ({error})") from None
        if charges is not None:
            frames[k].atoms.info["charge"] = charges[k]
    return frames


def _label(
    frame: Frame,
    arrays: dict[str, np.ndarray],
    names: tuple[str, str, str, str],
    readouts: dict[str, Any],
    k: int,
    of_atoms: Container[str] | None,
) -> Frame:
    """The frame with labels of structure ``k``."""
    _, _, energies, forces = names
    atoms, labels = frame.atoms, {}
    energy = float(np.asarray(arrays[energies][k], dtype=float).reshape(()))
    own_forces = np.asarray(arrays[forces][k], dtype=float) if forces in arrays else None
    for name, value in readouts.items():
        by_atom = name in of_atoms if of_atoms is not None else np.ndim(value) > 1 and len(value) == len(atoms)
        labels[name] = as_label(name, value, by_atom, len(atoms))
    return Frame(atoms, energy, own_forces, readouts=labels)


def _charges(arrays: dict[str, np.ndarray], name: str, count: int, path: Path) -> list[float] | None:
    """Charge of every structure in e; none if the file has none."""
    if name not in arrays:
        return None
    charges = arrays[name]
    if charges.size not in (1, count) or charges.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: {name} of shape {charges.shape} is no charge of {count} structures: give one number or one of "
            "each, or name another array by data.charge_key"
        )
    return np.broadcast_to(charges.reshape(-1), count).tolist()


def names_of(arrays: Container[str], config: LabelConfig) -> tuple[str, str, str, str]:
    """Which arrays hold positions, nuclear charges, energies and forces."""
    usual = _CLASSIC if "R" in arrays else (_ORIGINAL if config.labels == "original" else _REVISED)
    return usual[0], usual[1], config.energy_key or usual[2], config.forces_key or usual[3]


def _refuse_stress(path: Path, config: LabelConfig) -> None:
    """These files have no cells; a stress that is named would be left out in silence."""
    for name in ("stress_key", "virial_key"):
        if (key := getattr(config, name)) is not None:
            raise ValueError(
                f"{path}: {name} = {key!r}: structures of an npz file have no cell and so no stress; leave it out, or "
                "keep the structures as extended XYZ"
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
    flat = np.frombuffer(bytearray(stream.read()), dtype=dtype)  # PyTorch wants what it shares to be writable
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
