"""Structures that look wrong: atoms on top of each other or alone, strange densities, cells and periodicity."""

from __future__ import annotations

import numpy as np

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.finding import Finding, count
from ase_equivariant.training.doctor.geometry import REACH

_CRUSHED = 0.2  # Å: no nuclei are nearer in any data
_CLOSE = 0.55  # of the sum of covalent radii
_DENSE = 3.0  # Å³ per atom; diamond has 5.7
_EMPTY = 200.0  # Å³ per atom


def check_structures(data: Dataset) -> list[Finding]:
    """Distances, lone atoms, volumes and cells."""
    return [*_check_distances(data), *_check_lone_atoms(data), *_check_cells(data)]


def _check_distances(data: Dataset) -> list[Finding]:
    findings = []
    shortest = np.array([geometry.shortest for geometry in data.geometry])
    closeness = np.array([geometry.closeness for geometry in data.geometry])
    crushed = np.flatnonzero(shortest < _CRUSHED)
    if len(crushed):
        message = f"atoms lie on top of each other: {shortest.min():.3g} Å in the worst frame"
        cure = "an atom doubled at the cell's border, a wrong cell or wrong unit of length?"
        findings.append(Finding("structures", "error", message, cure, data.numbers_of(crushed)))
    close = np.flatnonzero((closeness < _CLOSE) & (shortest >= _CRUSHED))
    if len(close):
        message = f"atoms are as close as {closeness[close].min():.2f} of the sum of their covalent radii"
        cure = "meant as repulsive contacts? else remove the frames"
        findings.append(Finding("structures", "warning", message, cure, data.numbers_of(close)))
    return findings


def _check_lone_atoms(data: Dataset) -> list[Finding]:
    findings = []
    single = [k for k, frame in enumerate(data.frames) if frame.is_isolated_atom]
    if single:
        symbols = sorted({data.frames[k].atoms.get_chemical_symbols()[0] for k in single})
        message = f"single atoms: {', '.join(symbols)}; data.references = 'isolated_atoms' uses their energies"
        findings.append(Finding("structures", "note", message, "", data.numbers_of(single)))
    lone = [
        k
        for k, (frame, geometry) in enumerate(zip(data.frames, data.geometry, strict=True))
        if not frame.is_isolated_atom and np.isinf(geometry.nearest).any()
    ]
    if lone:
        message = f"atoms without a neighbour within {REACH:g} Å in {count(len(lone), 'frame')}: no network sees them"
        cure = "evaporated, or a molecule torn apart by wrapping without pbc?"
        findings.append(Finding("structures", "warning", message, cure, data.numbers_of(lone)))
    return findings


def _check_cells(data: Dataset) -> list[Finding]:
    findings, dense, empty, unused = [], [], [], []
    for k, frame in enumerate(data.frames):
        atoms = frame.atoms
        volume = atoms.get_volume() / len(atoms) if atoms.cell.rank == 3 and len(atoms) else np.inf
        if atoms.pbc.all() and volume < _DENSE:
            dense.append(k)
        if atoms.pbc.all() and volume > _EMPTY:
            empty.append(k)
        if not atoms.pbc.any() and (frame.stress is not None or volume < 60.0) and len(atoms) > 1:
            unused.append(k)
    if dense:
        message = f"less than {_DENSE:g} Å³ per atom in {count(len(dense), 'frame')}"
        findings.append(
            Finding("structures", "error", message, "a wrong cell or unit of length?", data.numbers_of(dense))
        )
    if empty:
        message = f"more than {_EMPTY:g} Å³ per atom in {count(len(empty), 'periodic frame')}: molecules in boxes?"
        findings.append(Finding("structures", "note", message, "", data.numbers_of(empty)))
    if unused:
        message = f"{count(len(unused), 'frame has', 'frames have')} a cell that fits or a stress, but no pbc"
        findings.append(
            Finding("structures", "warning", message, "set pbc if they are periodic", data.numbers_of(unused))
        )
    return findings
