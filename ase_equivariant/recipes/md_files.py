"""The files of a molecular-dynamics run: appended frame by frame, cut back to the last restart point."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io.extxyz import write_extxyz

from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.recipes.frames import OTHER_CONSTRAINTS, holds_whole_atoms


@dataclass(frozen=True)
class MDFiles:
    """Paths of a run called ``name`` in ``folder``."""

    folder: Path
    name: str

    @property
    def trajectory(self) -> Path:
        """Frames, extended XYZ with momenta, energy and forces."""
        return self.folder / f"{self.name}.md.extxyz"

    @property
    def log(self) -> Path:
        """Table of energies and temperature, CSV."""
        return self.folder / f"{self.name}.md.csv"

    @property
    def plot(self) -> Path:
        """Picture of the table."""
        return self.folder / f"{self.name}.md.png"

    @property
    def restart(self) -> Path:
        """State from which the run goes on."""
        return self.folder / f"{self.name}.restart.npz"

    @property
    def existing(self) -> list[Path]:
        """Those that are there."""
        return [path for path in (self.trajectory, self.log, self.plot, self.restart) if path.exists()]


class AppendedFile:
    """A file that grows by whole records, each in one write; a kill loses the record under way at most.

    Parameters
    ----------
    path : Path
        Opened for appending; made if absent.
    size : int
        Bytes to keep of what is there.

    Raises
    ------
    ValueError
        If the file is shorter, or does not have the end of a record there; it is left as it is.
    """

    def __init__(self, path: Path, size: int = 0):
        _refuse_lost_records(path, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._stream.truncate(size)

    def append(self, record: str) -> None:
        """Write one record; if the disk is full, none of it stays."""
        before = os.fstat(self._stream.fileno()).st_size
        rest = memoryview(record.encode())
        try:
            while rest:  # a raw write may take a part only
                rest = rest[self._stream.write(rest) :]
        except OSError:
            self._stream.truncate(before)
            raise

    def sync(self) -> int:
        """Bring all records to the disk and return the size in bytes."""
        os.fsync(self._stream.fileno())
        return os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _refuse_lost_records(path: Path, size: int) -> None:
    if size == 0:
        return
    there = path.stat().st_size if path.exists() else 0
    if there < size:
        what = f"has {there} bytes" if path.exists() else "is missing"
        raise ValueError(
            f"{path} {what}, but the restart point counts on {size}: bring the file back, or start anew with overwrite"
        )
    with open(path, "rb") as stream:
        stream.seek(size - 1)
        if stream.read(1) != b"\n":
            raise ValueError(
                f"{path} is not the file that the restart point counts on (no record ends at byte {size}): "
                "bring it back, or start anew with overwrite"
            )


def without_labels(atoms: Atoms) -> Atoms:
    """A copy with the same calculator, without energies, forces … that ``info`` and ``arrays`` have from elsewhere.

    Those are of another method, or of where the atoms were; ASE writes no extended XYZ of them beside a calculator's.
    """
    bare = atoms.copy()
    bare.info = {name: value for name, value in atoms.info.items() if name not in all_properties}
    for name in set(all_properties) & set(bare.arrays):
        del bare.arrays[name]
    bare.calc = atoms.calc
    return bare


def with_results(atoms: Atoms, results: Mapping[str, Any]) -> Atoms:
    """A copy of the atoms that keeps energy, forces and, if there is one, stress.

    Of ``atoms.info`` it keeps numbers, texts and arrays that are no labels: extended XYZ has no place for the rest,
    such as what ASE's surface builders note.
    """
    frame = without_labels(atoms)
    frame.info = {
        k: v for k, v in frame.info.items() if isinstance(v, str | bool | int | float | np.generic | np.ndarray)
    }
    known = {name: results[name] for name in ("energy", "forces", "stress") if name in results}
    frame.calc = SinglePointCalculator(frame, **known)
    return frame


def frame_record(atoms: Atoms, step: int, time_fs: float) -> str:
    """One extended-XYZ frame with all arrays (momenta …), energy, forces and, if there is one, stress.

    Of constraints that it has no place for (all but those of whole atoms and Cartesian directions) it has the kinds.
    """
    assert atoms.calc is not None
    frame = with_results(atoms, atoms.calc.results)
    frame.info.update(step=step, time_fs=time_fs)
    constraints = [FixAtoms(c.index) if holds_whole_atoms(c) else c for c in atoms.constraints]
    others = sorted({type(c).__name__ for c in constraints if not isinstance(c, FixAtoms | FixCartesian)})
    frame.set_constraint(constraints)
    frame.info.pop(OTHER_CONSTRAINTS, None)  # of a file that the run began with
    if others:
        frame.info[OTHER_CONSTRAINTS] = " ".join(others)
    text = io.StringIO()
    write_extxyz(text, [frame])
    return text.getvalue()


def write_state(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Write a restart point, whole or not at all; arrays of numbers and text only."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **state)  # type: ignore[arg-type]


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Read a restart point; nothing in it is executed.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, or it is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"no restart file {path}: start the run without restart")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a whole restart file ({error}): start the run anew with overwrite") from None
