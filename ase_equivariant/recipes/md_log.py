"""The table of a molecular-dynamics run: rows in, columns and what they tell out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError

LOG_COLUMNS = ("step", "time_ps", "potential_eV", "kinetic_eV", "total_eV", "temperature_K")
CELL_COLUMNS = ("volume_A3", "pressure_GPa")


def log_header(columns: Sequence[str]) -> str:
    """The first line."""
    return ",".join(columns) + "\n"


def log_row(columns: Sequence[str], atoms: Atoms, step: int, time_fs: float, temperature_K: float) -> str:
    """One line: what the atoms and their calculator say at this step."""
    potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
    row = [step, time_fs / 1000, potential, kinetic, potential + kinetic, temperature_K]
    if "volume_A3" in columns:
        row += [atoms.get_volume(), _pressure_GPa(atoms)]
    return ",".join(str(value) for value in row) + "\n"


def _pressure_GPa(atoms: Atoms) -> float:
    try:
        return float(-atoms.get_stress(voigt=False, include_ideal_gas=True).trace() / 3 / units.GPa)
    except PropertyNotImplementedError:  # the last good frame of a calculator that computes stress on demand
        return float("nan")


def read_log(path: str | Path) -> dict[str, np.ndarray]:
    """Columns of a run's log."""
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = rows[0].keys() if rows else LOG_COLUMNS
    return {name: np.array([float(row[name]) for row in rows]) for name in names}


def averages(log: dict[str, np.ndarray]) -> tuple[float, float]:
    """Temperature (K) and potential energy (eV) over the second half."""
    half = len(log["step"]) // 2
    return float(log["temperature_K"][half:].mean()), float(log["potential_eV"][half:].mean())


def drift(log: dict[str, np.ndarray], num_atoms: int) -> float:
    """Slope of the total energy in meV/atom/ps."""
    if len(log["step"]) < 2 or num_atoms == 0:
        return 0.0
    return float(np.polyfit(log["time_ps"], log["total_eV"], 1)[0]) * 1000 / num_atoms
