"""What files hold beside what training reads of them."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ase_equivariant.training.doctor.finding import Finding, count
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.npz import names_of
from ase_equivariant.training.readers import iterate_structures
from ase_equivariant.training.readout_labels import keys_of, unnamed_labels

_LABEL = re.compile(r"energ|force|grad|stress|virial|dipole|charge|magmom|spin", re.IGNORECASE)
_NOT_LABELS = re.compile(r"unit|atomic_num|nuclear_charges|initial|key$", re.IGNORECASE)


def check_files(paths: Sequence[Path], counts: Sequence[int], config: LabelConfig) -> list[Finding]:
    """Labels under names that are not read, constraints, and periodic directions without a lattice vector.

    ``counts`` is how many structures the files have: frames are numbered through all of them.
    """
    unread: Counter[str] = Counter()
    constrained: list[int] = []
    cellless: list[int] = []
    for path, first in zip(paths, np.cumsum([0, *counts]).tolist(), strict=False):
        if path.suffix == ".npz":
            unread.update(_unread_arrays(path, config))
            continue
        for k, atoms in enumerate(iterate_structures(path), first):
            places = {**(atoms.calc.results if atoms.calc is not None else {}), **atoms.info, **atoms.arrays}
            names = [name for name, value in places.items() if value is not None and _is_label(name)]
            unread.update(set(names) - _read_names(config) - set(unnamed_labels(atoms, config)))
            if atoms.constraints:
                constrained.append(k)
            if (atoms.pbc & ~atoms.cell.any(1)).any():
                cellless.append(k)
    return _report(unread, constrained, cellless)


def _read_names(config: LabelConfig) -> set[str]:
    stress = config.virial_key or config.stress_key or "stress"
    return {config.energy_key or "energy", config.forces_key or "forces", stress, *_read_beside(config)}


def _read_beside(config: LabelConfig) -> set[str]:
    """Names of read-outs and of the structure's charge."""
    return {config.charge_key, *keys_of(config).values()}


def _unread_arrays(path: Path, config: LabelConfig) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.removesuffix(".npy") for member in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return set()  # the reader says what is wrong with it
    read = {*names_of(names, config), *_read_beside(config)}
    return {name for name in names if _is_label(name) and name not in read}


def _is_label(name: str) -> bool:
    return bool(_LABEL.search(name)) and not _NOT_LABELS.search(name)


def _report(unread: Counter[str], constrained: list[int], cellless: list[int]) -> list[Finding]:
    findings = []
    if unread:
        message = f"look like labels and are not read: {', '.join(sorted(unread))}"
        findings.append(Finding("labels", "note", message, "--energy-key, --forces-key, --stress-key choose others"))
    if constrained:
        message = f"constraints in {count(len(constrained), 'frame')}: they are not read"
        cure = "forces written with constraints lack those of fixed atoms"
        findings.append(Finding("labels", "warning", message, cure, tuple(constrained)))
    if cellless:
        message = f"{count(len(cellless), 'frame is', 'frames are')} periodic along a direction without lattice vector"
        cure = "read as not periodic there; give the cell or set pbc"
        findings.append(Finding("structures", "warning", message, cure, tuple(cellless)))
    return findings
