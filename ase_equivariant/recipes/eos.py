"""Equation of state: energy against volume, equilibrium volume and bulk modulus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.eos import EquationOfState


@dataclass(frozen=True)
class EosResult:
    """What an equation of state came to.

    Attributes
    ----------
    volumes, energies : ndarray
        Å³ and eV of the cell, sampled.
    volume : float
        Å³ at the minimum.
    energy : float
        eV there.
    bulk_modulus_GPa : float
        There.
    linear_strain : float
        Of the cell given, (volume / its volume)^(1/3) − 1: a cubic lattice constant times one plus this is the
        equilibrium one.
    """

    volumes: np.ndarray
    energies: np.ndarray
    volume: float
    energy: float
    bulk_modulus_GPa: float
    linear_strain: float


def equation_of_state(atoms: Atoms, strain: float = 0.04, points: int = 9) -> EosResult:
    """Scale the cell isotropically, keep fractional positions, and fit Birch and Murnaghan's equation.

    Parameters
    ----------
    atoms : Atoms
        Periodic in all directions, with a calculator; not changed.
    strain : float
        Lengths are scaled from 1 − strain to 1 + strain.
    points : int
        Volumes, at least 5.

    Raises
    ------
    ValueError
        If the atoms are no crystal with a calculator, or the minimum lies outside the volumes sampled.

    References
    ----------
    Birch, Phys. Rev. 71, 809 (1947).
    """
    if atoms.calc is None or not atoms.pbc.all() or atoms.cell.rank < 3:
        raise ValueError("an equation of state needs a crystal, periodic in all directions, with a calculator")
    if points < 5 or not 0 < strain < 0.3:
        raise ValueError(f"strain = {strain} and points = {points}: use 0 < strain < 0.3 and at least 5 points")
    volumes, energies = [], []
    for scale in np.linspace(1 - strain, 1 + strain, points):
        trial = atoms.copy()
        trial.calc = atoms.calc
        trial.set_cell(atoms.cell.array * scale, scale_atoms=True)
        volumes.append(trial.get_volume())
        energies.append(trial.get_potential_energy())
    lowest = int(np.argmin(energies))
    if lowest in (0, points - 1):
        raise ValueError(
            f"the lowest energy is at the {'smallest' if lowest == 0 else 'largest'} volume, {volumes[lowest]:.3f} Å³: "
            "start from a better cell or take a larger strain"
        )
    volume, energy, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit(warn=False)
    linear = (volume / atoms.get_volume()) ** (1 / 3) - 1
    return EosResult(
        np.array(volumes), np.array(energies), float(volume), float(energy), float(modulus / units.GPa), float(linear)
    )
