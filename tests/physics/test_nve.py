"""Energy is conserved by the shipped model: minutes, before a release."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from ase_equivariant import EquivariantCalculator

PICOSECONDS, TIMESTEP_FS, EVERY = 10.0, 0.5, 10


@pytest.mark.slow
@pytest.mark.parametrize("fast", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("preset", ["relax", "md"], ids=["float64", "float32"])
def test_ethanol_conserves_energy(preset, fast, check):
    """NVE at 300 K: slope of the total energy over 10 ps ≤ 0.1 meV/atom/ps."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = EquivariantCalculator("ethanol", preset=preset, fast=fast)
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
    # Maxwell-Boltzmann at twice the temperature, because half of it becomes potential energy; no drift of the centre.
    masses = atoms.get_masses()
    velocities = np.random.default_rng(1).normal(size=(len(atoms), 3)) * np.sqrt(600 * units.kB / masses)[:, None]
    atoms.set_velocities(velocities - np.average(velocities, axis=0, weights=masses))
    energies, temperatures = [], []

    def record():
        energies.append(1000 * atoms.get_total_energy() / len(atoms))
        temperatures.append(atoms.get_temperature())

    dynamics = VelocityVerlet(atoms, timestep=TIMESTEP_FS * units.fs)
    dynamics.attach(record, interval=EVERY)
    dynamics.run(int(1000 * PICOSECONDS / TIMESTEP_FS))
    times = np.arange(len(energies)) * EVERY * TIMESTEP_FS / 1000
    slope, _ = np.polyfit(times, energies, 1)
    assert 150 < np.mean(temperatures) < 500
    kind = f"{'compiled' if fast else 'eager'}, preset {preset}"
    check(f"NVE drift of ethanol, {kind} (meV/atom/ps)", abs(slope), 0.1)
    check(f"NVE fluctuation of ethanol, {kind} (meV/atom)", float(np.std(energies)), 1.0)
