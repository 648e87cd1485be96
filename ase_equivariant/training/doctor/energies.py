"""Energies that carry no information: all the same, or rounded."""

from __future__ import annotations

import numpy as np

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.finding import Finding, count

_FEWEST = 20
_SHARE = 0.1
_COARSE = 1e-4  # eV/atom, a tenth of the errors of good models


def check_energies(data: Dataset) -> list[Finding]:
    """Different structures of one composition with the same energy, and how finely energies are given."""
    findings = []
    for group in data.group(lambda frame: frame.atoms.numbers.tobytes()):
        places = [k for k in group if data.frames[k].energy is not None]
        if len(places) < _FEWEST or not data.differ(places):
            continue
        energies = np.array([data.frames[k].energy for k in places])
        values, inverse, times = np.unique(np.round(energies, 8), return_inverse=True, return_counts=True)
        repeated = []
        for value in np.flatnonzero(times > 1):
            same = [places[k] for k in np.flatnonzero(inverse == value)]
            repeated += same if data.differ(same) else []
        if times.max() > len(places) / 2:
            constant = np.array(places)[inverse == times.argmax()]
            message = f"{count(len(constant), 'frame')} with different positions have the same energy"
            cure = "labels repeated by mistake? compute them again"
            findings.append(Finding("energies", "error", message, cure, data.numbers_of(constant)))
        elif len(repeated) > _SHARE * len(places):
            findings.append(_rounding(values, len(repeated), len(data.frames[places[0]].atoms)))
    return findings


def _rounding(values: np.ndarray, repeated: int, num_atoms: int) -> Finding:
    step = float(np.diff(values).min())
    message = f"energies of {count(repeated, 'frame')} coincide: they are given in steps of about {step:.2g} eV"
    if step < _COARSE * num_atoms:
        return Finding("energies", "note", f"{message}, {step / num_atoms:.1g} eV per atom")
    return Finding("energies", "warning", message, "written with more digits, or in float64, they would teach more")
