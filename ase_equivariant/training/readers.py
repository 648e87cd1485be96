"""Files to labelled frames in eV and Å, whatever their format, names and units."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from ase import Atoms
from ase.db import connect
from ase.io import iread
from ase.stress import voigt_6_to_full_3x3_stress

from ase_equivariant.graph.convert import total_charge
from ase_equivariant.training.frames import Frame, bare_structure
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.npz import read_npz
from ase_equivariant.training.readout_labels import as_numbers, convert_labels, find_labels, find_value, label_keys
from ase_equivariant.training.units import convert_units

DATABASES = (".db", ".aselmdb")
UNITS_NOTE = "ase_equivariant_units"
# A process may open a file of LMDB only once.
_open: WeakValueDictionary[tuple[int, int, int], Any] = WeakValueDictionary()


class DataError(ValueError):
    """Data that cannot be used; the message says which file and why."""


def read_frames(
    files: str | Path | Sequence[str | Path],
    config: LabelConfig | None = None,
    *,
    allow_nonfinite: bool = False,
    of_atoms: Container[str] | None = None,
) -> list[Frame]:
    """Read every structure of one or several files, labels in eV, eV/Å and eV/Å³.

    Parameters
    ----------
    files : path or sequence of paths
        ``.npz`` in the layout of MD17, ASE databases (``.db``, ``.aselmdb``), and all that ``ase.io.read`` knows.
    config : LabelConfig, optional
        Names and units of the labels.
    allow_nonfinite : bool
        Read NaN and infinities as they are instead of refusing them.
    of_atoms : container of str, optional
        Names of the user's own read-outs that ``.npz`` files have by atom, which those do not say themselves; see
        :func:`~ase_equivariant.training.npz.read_npz`.

    Raises
    ------
    DataError
        If a file is missing, unreadable or empty, a label is missing by name, of the
        wrong shape, or not finite and not allowed to be, or a structure's charge is no finite number.
    """
    config = config or LabelConfig()
    paths = [files] if isinstance(files, str | Path) else files
    frames = [
        frame for path in paths for frame in iterate_frames(Path(path), config, allow_nonfinite, of_atoms=of_atoms)
    ]
    if not frames:
        raise DataError(f"{', '.join(map(str, paths))}: no structures in it")
    return frames


def read_structures(files: str | Path | Sequence[str | Path], config: LabelConfig | None = None) -> list[Frame]:
    """As :func:`read_frames` without labels, which files need not have; of ``config`` length unit and charge count."""
    units = LabelConfig(length_units=config.length_units, charge_key=config.charge_key) if config else LabelConfig()
    paths = [files] if isinstance(files, str | Path) else files
    frames = [Frame(frame.atoms) for path in paths for frame in iterate_frames(Path(path), units, labelled=False)]
    if not frames:
        raise DataError(f"{', '.join(map(str, paths))}: no structures in it")
    return frames


def iterate_frames(
    path: Path,
    config: LabelConfig,
    allow_nonfinite: bool = False,
    *,
    labelled: bool = True,
    of_atoms: Container[str] | None = None,
) -> Iterator[Frame]:
    """Frames of one file as :func:`read_frames` gives them, one after the other; an npz file is in memory as a whole.

    Raises
    ------
    DataError
        As that.
    """
    check_file(path)
    frames: Iterable[Frame]
    if path.suffix == ".npz":
        try:
            frames = read_npz(path, config, labelled=labelled, of_atoms=of_atoms)
        except ValueError as error:
            raise DataError(str(error)) from None
    elif labelled:
        frames = label_all(path, config)
    else:
        frames = (Frame(bare_structure(atoms, config.charge_key)) for atoms in iterate_structures(path, config))
    for k, frame in enumerate(frames):
        yield finish(frame, f"{path}: structure {k}", path, config, allow_nonfinite)


def check_file(path: Path) -> None:
    """Raise :class:`DataError` if there is no such file, or it is a folder."""
    if path.is_dir():
        raise DataError(f"{path} is a folder: name the files in it")
    if not path.is_file():
        raise DataError(f"{path}: no such file (relative paths start from the current directory, {Path.cwd()})")


def label_all(path: Path, config: LabelConfig) -> Iterator[Frame]:
    """Structures and labels of a file as it has them, one by one.

    Raises
    ------
    DataError
        If ASE cannot read it, a label has the wrong shape, or, at the end, one that is named occurred nowhere.
    """
    names = LabelNames(config)
    for k, atoms in enumerate(iterate_structures(path, config)):
        frame = label_one(atoms, f"{path}: structure {k}", config)
        names.add(atoms, frame)
        yield frame
    names.check(path)


def finish(frame: Frame, where: str, path: Path, config: LabelConfig, allow_nonfinite: bool = False) -> Frame:
    """A frame as its file has it, checked and in eV and Å; ``where`` begins messages.

    Raises
    ------
    DataError
        If a label has the wrong shape, is not finite and not allowed to be, or cannot be; or the charge is no number.
    """
    _check(frame, where, allow_nonfinite)
    _check_charge(frame.atoms, where, config.charge_key)
    frame = convert_units(frame, path, config)
    try:
        return convert_labels(frame, config)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def iterate_structures(path: Path, config: LabelConfig | None = None) -> Iterator[Atoms]:
    """Structures of a database or any file of ASE's, with everything that is in it.

    Raises
    ------
    DataError
        If ASE cannot read it, or it is a database that states other units than the configuration.
    """
    try:
        if path.suffix in DATABASES:
            database = open_database(path)
            check_units(database, path, config or LabelConfig())
            for row in database.select():
                yield atoms_of(row)
        else:
            yield from iread(path, index=":")
    except DataError:
        raise
    except Exception as error:  # ASE's readers raise whatever their format makes them stumble on
        raise DataError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error


def open_database(path: Path) -> Any:
    """ASE's database, to be read.

    Raises
    ------
    DataError
        If it is one of LMDB, and the package that ASE reads those with is not installed.
    """
    if path.suffix != ".aselmdb":
        return connect(path)
    status = path.stat()
    key = (status.st_dev, status.st_ino, status.st_mtime_ns)
    if (database := _open.get(key)) is None:
        try:
            # ASE's class opens what is no LMDB a second time when it is deleted, where nobody can catch the error.
            import_module("lmdb").open(str(path), subdir=False, readonly=True, lock=False).close()
            _open[key] = database = connect(path, readonly=True, readahead=False)
        except ImportError:
            raise no_lmdb(path) from None
    return database


def no_lmdb(path: Path) -> DataError:
    """What to raise where the package is missing."""
    return DataError(f"{path}: LMDB needs another package: pip install 'ase-equivariant[lmdb]'")


def check_units(database: Any, path: Path, config: LabelConfig) -> None:
    """Refuse units for a database that says its own: those that `data convert` writes are in eV, Å and e.

    Raises
    ------
    DataError
        If the configuration has others.
    """
    ours = database.metadata.get(UNITS_NOTE)
    if ours is None:
        return
    options = ("units", "length_units", "dipole_units", "dipole_origin", "polarizability_units")
    given = {option: getattr(config, option) for option in options}
    others = [
        f"{option} = {value!r}"
        for option, value in given.items()
        if value not in (LabelConfig.model_fields[option].default, "eV")
    ]
    if others:
        raise DataError(f"{path}: is in {ours} (dipoles in e·Å): leave {' and '.join(others)} out of [data]")


def atoms_of(row: Any) -> Atoms:
    """Structure of a database's row, with everything that is in it."""
    atoms = row.toatoms()
    atoms.info.update(row.key_value_pairs)
    atoms.info.update(row.data)
    return atoms


class LabelNames:
    """Whether the labels that a configuration names occur in any structure of a file, and energies or forces do."""

    def __init__(self, config: LabelConfig):
        self._missing = label_keys(config)
        self._labelled, self._there = False, dict[str, None]()

    def add(self, atoms: Atoms, frame: Frame) -> None:
        """Look at a structure, and at the frame made of it."""
        self._missing = {name: key for name, key in self._missing.items() if find_value(atoms, (key,)) is None}
        self._labelled |= frame.energy is not None or frame.forces is not None or bool(frame.readouts)
        own = [*(atoms.calc.results if atoms.calc else {}), *atoms.info, *atoms.arrays]
        self._there.update(dict.fromkeys(name for name in own if name not in ("numbers", "positions")))

    @property
    def are_found(self) -> bool:
        """Whether nothing is missing any more."""
        return self._labelled and not self._missing

    def check(self, path: Path) -> None:
        """Refuse the file if something is missing.

        Raises
        ------
        DataError
            Names what is missing, and what there is.
        """
        there = f"there are {', '.join(self._there)}" if self._there else "there are no labels at all"
        for name, key in self._missing.items():
            raise DataError(f"{path}: {name} = {key!r} is in no structure; {there}")
        if not self._labelled:
            cure = (
                "; if they are among these, name them by energy_key and forces_key in [data], --energy-key and "
                "--forces-key of commands"
            )
            raise DataError(f"{path}: neither energies nor forces found; {there}{cure if self._there else ''}")


def label_one(atoms: Atoms, where: str, config: LabelConfig) -> Frame:
    """A structure and its labels as they are in the file.

    Raises
    ------
    DataError
        If one has the wrong shape; the message begins with ``where``.
    """
    energy = find_value(atoms, (config.energy_key,) if config.energy_key else ("energy", "free_energy"))
    forces = find_value(atoms, (config.forces_key or "forces",))
    stress = find_value(atoms, (config.virial_key or config.stress_key or "stress",))
    try:
        energy = None if energy is None else float(as_numbers("energy", energy, ()))
        forces = None if forces is None else as_numbers("forces", forces, (len(atoms), 3))
        stress = None if stress is None else _full_stress(stress)
        readouts = find_labels(atoms, config)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    if stress is not None and config.virial_key:
        if atoms.cell.rank < 3:
            raise DataError(f"{where}: has a virial but no cell, so there is no stress")
        stress = -stress / atoms.get_volume()
    bare = bare_structure(atoms, config.charge_key, label_keys(config).values())
    if config.dipole_origin == "mass" and atoms.has("masses"):
        bare.set_masses(atoms.get_masses())
    return Frame(bare, energy, forces, stress, readouts)


def _full_stress(stress: Any) -> np.ndarray:
    values = as_numbers("stress", stress, (6,), (3, 3))
    return voigt_6_to_full_3x3_stress(values) if values.size == 6 else values


def _check(frame: Frame, where: str, allow_nonfinite: bool) -> None:
    if len(frame.atoms) == 0:
        raise DataError(f"{where}: has no atoms; remove it")
    if (frame.atoms.numbers < 1).any():
        raise DataError(f"{where}: atom {int(np.argmin(frame.atoms.numbers))} is no element (X); remove it or name it")
    for name in ("energy", "forces", "stress") if not allow_nonfinite else ():
        value = getattr(frame, name)
        if value is not None and not np.isfinite(value).all():
            raise DataError(f"{where}: {name} is not finite; remove the structure or its label")
    for name, label in frame.readouts.items() if not allow_nonfinite else ():
        if not np.isfinite(label.values).all():
            raise DataError(f"{where}: {name} is not finite; remove the structure or its label")
    if not allow_nonfinite and not np.isfinite(frame.atoms.positions).all():
        raise DataError(f"{where}: a position is not finite; remove the structure")
    if frame.forces is not None and frame.forces.shape != (len(frame.atoms), 3):
        raise DataError(f"{where}: {len(frame.atoms)} atoms but forces of shape {frame.forces.shape}")


def _check_charge(atoms: Atoms, where: str, charge_key: str) -> None:
    try:
        total_charge(atoms)
    except ValueError:
        raise DataError(
            f"{where}: {charge_key} = {str(atoms.info['charge'])[:40]!r} is not a charge in e: give a number, such as "
            "1, or name another entry by data.charge_key"
        ) from None
