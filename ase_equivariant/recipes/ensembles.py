"""ASE's integrators by ensemble, with the part of their state that a restart must keep."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT
from ase.md.verlet import VelocityVerlet
from pydantic import Field, model_validator

from ase_equivariant.config import Config
from ase_equivariant.recipes.temperature import degrees_of_freedom

Ensemble = Literal["nve", "langevin", "bussi", "npt", "npt-full"]

# Settings that not all ensembles have, by those that have them.
OWN_SETTINGS: dict[Ensemble, tuple[str, ...]] = {
    "nve": (),
    "langevin": ("friction_per_ps",),
    "bussi": ("taut_fs",),
    "npt": ("pressure_GPa", "taut_fs", "taup_fs"),
    "npt-full": ("pressure_GPa", "taut_fs", "taup_fs"),
}
# Attributes that ASE's integrators carry from step to step; the rest follows from the settings.
_CHAINS = ("_thermostat._eta", "_thermostat._p_eta", "_barostat._xi", "_barostat._p_xi")
_STATE: dict[str, tuple[str, ...]] = {
    "nve": (),
    "langevin": (),
    "bussi": ("transferred_energy",),
    "npt": ("_q", "_p", "_eps", "_p_eps", "_volume0", "_cell0", *_CHAINS),
    "npt-full": ("_q", "_p", "_h", "_p_g", *_CHAINS),
}


class MDSettings(Config):
    """What a molecular-dynamics run is.

    Attributes
    ----------
    ensemble : {"nve", "langevin", "bussi", "npt", "npt-full"}
        Velocity Verlet; Langevin; Bussi's stochastic velocity rescaling; Martyna-Tobias-Klein
        NPT with the cell's volume, or all of the cell, free.
    temperature_K : float
        Of the thermostat and of the initial velocities.
    timestep_fs : float
        Time step.
    friction_per_ps : float
        Langevin.
    taut_fs : float
        Time constant of Bussi's and NPT's thermostat.
    taup_fs : float
        Time constant of NPT's barostat.
    pressure_GPa : float
        NPT.
    seed : int
        Of initial velocities and thermostat.
    """

    ensemble: Ensemble = "langevin"
    temperature_K: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    timestep_fs: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    friction_per_ps: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    taut_fs: float = Field(default=100.0, gt=0, allow_inf_nan=False)
    taup_fs: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    pressure_GPa: float = Field(default=0.0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _warm(self) -> MDSettings:
        if self.temperature_K == 0 and self.ensemble not in ("nve", "langevin"):
            raise ValueError(f"ensemble {self.ensemble!r} needs temperature_K above 0")
        return self


def build_dynamics(atoms: Atoms, settings: MDSettings, rng: np.random.Generator) -> MolecularDynamics:
    """ASE's integrator for ``settings``, drawing from ``rng``, of atoms that have velocities.

    Thermostats that keep the motion of the whole as it is count what shares the kinetic energy
    (:func:`~ase_equivariant.recipes.temperature.degrees_of_freedom`); ASE's count all 3 N momenta.

    Raises
    ------
    ValueError
        If NPT is asked for without a three-dimensional periodic cell, or with constraints.
    """
    dt, fs = settings.timestep_fs * units.fs, units.fs
    if settings.ensemble.startswith("npt"):
        if atoms.cell.rank < 3 or not atoms.pbc.all():
            raise ValueError("NPT needs a cell that is periodic in all three directions: use nve, langevin or bussi")
        if atoms.constraints:
            raise ValueError("ASE's NPT does not support constraints: remove them or use another ensemble")
    npt: dict[str, Any] = {
        "temperature_K": settings.temperature_K,
        "pressure_au": settings.pressure_GPa * units.GPa,
        "tdamp": settings.taut_fs * fs,
        "pdamp": settings.taup_fs * fs,
    }
    makers: dict[str, Callable[[], MolecularDynamics]] = {
        "nve": lambda: VelocityVerlet(atoms, dt),
        "langevin": lambda: Langevin(
            atoms,
            dt,
            temperature_K=settings.temperature_K,
            friction=settings.friction_per_ps / (1000 * fs),
            rng=rng,
            fixcm=False,  # holding the centre of mass distorts the ensemble of small systems
        ),
        "bussi": lambda: Bussi(atoms, dt, temperature_K=settings.temperature_K, taut=settings.taut_fs * fs, rng=rng),
        "npt": lambda: IsotropicMTKNPT(atoms, dt, **npt),
        "npt-full": lambda: MTKNPT(atoms, dt, **npt),
    }
    dynamics = makers[settings.ensemble]()
    _count_motions(dynamics, degrees_of_freedom(atoms, settings.ensemble))
    return dynamics


def _count_motions(dynamics: MolecularDynamics, dof: int) -> None:
    """Tell a thermostat how many momenta share the kinetic energy."""
    if isinstance(dynamics, Bussi):
        dynamics.ndof = dof
        dynamics.target_kinetic_energy = dynamics.temp * dof / 2
    elif isinstance(dynamics, IsotropicMTKNPT | MTKNPT):
        count = dof / 3  # ASE has atoms here, and takes three times as many momenta; its pressure takes them, too
        dynamics._thermostat._Q[0] *= count / dynamics._num_atoms_global
        dynamics._thermostat._num_atoms_global = dynamics._num_atoms_global = count  # type: ignore[assignment]


def integrator_state(dynamics: MolecularDynamics, ensemble: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the integrator carries from step to step, as arrays."""
    state = {f"integrator.{name}": np.asarray(_get(dynamics, name)).copy() for name in _STATE[ensemble]}
    state["rng"] = np.array(json.dumps(rng.bit_generator.state))
    return state


def restore_integrator(
    dynamics: MolecularDynamics, ensemble: str, rng: np.random.Generator, state: dict[str, np.ndarray]
) -> None:
    """Put back what :func:`integrator_state` took."""
    for name in _STATE[ensemble]:
        value = state[f"integrator.{name}"]
        *path, last = name.split(".")
        owner: Any = dynamics
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, last, value.copy() if value.ndim else float(value))
    rng.bit_generator.state = json.loads(str(state["rng"]))


def _get(owner: Any, name: str) -> Any:
    for part in name.split("."):
        owner = getattr(owner, part)
    return owner
