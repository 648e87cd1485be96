"""What temperature is where an integrator keeps some motions as they were at the start."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta

# Of the kinetic energy: less than this in a motion of the whole is none.
_NO_MOTION = 1e-8


def degrees_of_freedom(atoms: Atoms, ensemble: str | None = None) -> int:
    """Momenta that share the kinetic energy ``dof/2 · k_B T``.

    Integrators other than Langevin's conserve the total momentum, and of a molecule the angular momentum. Where
    they are zero, 3 or 6 of the 3 N momenta take no part: a thermostat that counted them would heat the
    others, water to three times the temperature. Constraints take theirs, and then nothing is conserved.

    Parameters
    ----------
    atoms : Atoms
        With momenta.
    ensemble : str, optional
        Of :class:`~ase_equivariant.recipes.ensembles.MDSettings`; not needed where velocities are not those of the
        start, which lack what Langevin's have later.

    References
    ----------
    Frenkel and Smit, Understanding Molecular Simulation (2002), section 4.1.
    """
    dof = int(atoms.get_number_of_degrees_of_freedom())
    if ensemble == "langevin" or atoms.constraints or len(atoms) < 2:
        return dof
    masses, velocities = atoms.get_masses(), atoms.get_velocities()
    drift = masses @ velocities / masses.sum()
    kinetic = atoms.get_kinetic_energy()
    if masses.sum() * drift @ drift / 2 > _NO_MOTION * kinetic:
        return dof
    dof -= 3
    if atoms.pbc.any() or _rotation_energy(atoms) > _NO_MOTION * kinetic:
        return dof
    return dof - (3 if len(atoms) > 2 else 2)


def _rotation_energy(atoms: Atoms) -> float:
    """Of the rigid rotation with the angular momentum of the atoms, in eV."""
    moments, axes = atoms.get_moments_of_inertia(vectors=True)
    angular = axes @ atoms.get_angular_momentum()
    turning = moments > 1e-6 * moments.max(initial=0.0)  # not about the axis of a linear molecule
    return float((angular[turning] ** 2 / moments[turning]).sum() / 2)


def temperature_of(atoms: Atoms, dof: int) -> float:
    """Instantaneous temperature of ``dof`` momenta in K; 0 if there are none."""
    return float(2 * atoms.get_kinetic_energy() / (dof * units.kB)) if dof else 0.0


def draw_velocities(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> None:
    """Maxwell and Boltzmann's velocities, without drift, and without rotation for a molecule.

    What is taken out is not made up for: the other motions keep their temperature.
    """
    thermalize_momenta(atoms, temperature_K=temperature_K, rng=rng)
    if len(atoms) > 1 and not atoms.constraints:
        Stationary(atoms, preserve_temperature=False)
        if not atoms.pbc.any() and len(atoms) > 2:
            with np.errstate(invalid="ignore", divide="ignore"):  # about the axis of a linear molecule
                ZeroRotation(atoms, preserve_temperature=False)
