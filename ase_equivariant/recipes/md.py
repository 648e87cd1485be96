"""Molecular dynamics that can be killed at any moment and goes on as if it had not been."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculatorError, PropertyNotImplementedError
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta

from ase_equivariant.recipes.ensembles import MDSettings, build_dynamics, integrator_state, restore_integrator
from ase_equivariant.recipes.md_files import AppendedFile, MDFiles, frame_record, read_state, write_state

LOG_COLUMNS = ("step", "time_ps", "potential_eV", "kinetic_eV", "total_eV", "temperature_K")
CELL_COLUMNS = ("volume_A3", "pressure_GPa")


class SimulationError(RuntimeError):
    """The dynamics left the physical: NaN, or forces or a temperature beyond the limits."""


@dataclass(frozen=True)
class MDProgress:
    """Where a run is, for progress bars."""

    step: int
    potential_eV: float
    temperature_K: float
    steps_per_second: float
    ns_per_day: float


@dataclass(frozen=True)
class MDResult:
    """What a run came to.

    Attributes
    ----------
    atoms : Atoms
        The last frame.
    steps : int
        Steps since the start of the run, all parts together.
    mean_temperature_K, mean_potential_eV : float
        Over the logged frames of the second half.
    drift_meV_per_atom_ps : float
        Slope of the total energy (a conserved quantity in NVE only).
    steps_per_second, ns_per_day : float
        Speed of this part of the run.
    interrupted : bool
        Whether Ctrl-C ended it.
    files : MDFiles
        What was written.
    """

    atoms: Atoms
    steps: int
    mean_temperature_K: float
    mean_potential_eV: float
    drift_meV_per_atom_ps: float
    steps_per_second: float
    ns_per_day: float
    interrupted: bool
    files: MDFiles


def run_md(
    atoms: Atoms,
    steps: int,
    settings: MDSettings | None = None,
    *,
    folder: str | Path = ".",
    name: str = "md",
    interval: int = 20,
    restart: bool = False,
    overwrite: bool = False,
    max_force: float = 100.0,
    max_temperature_K: float | None = None,
    progress: Callable[[MDProgress], None] | None = None,
) -> MDResult:
    """Run molecular dynamics with the calculator of ``atoms``.

    Writes a trajectory (extended XYZ), a log (CSV) and a restart file, every ``interval``
    steps. After a kill, the same call with ``restart=True`` continues from the last restart
    point: no frame is lost or doubled, and the trajectory is that of an uninterrupted run.

    Parameters
    ----------
    atoms : Atoms
        With a calculator; changed in place. Velocities are drawn from the Maxwell-Boltzmann
        distribution (without drift, and without rotation for a molecule) if there are none.
    steps : int
        Length of the whole run, the part before a restart included.
    settings : MDSettings, optional
        Ensemble, temperature, time step …
    folder, name : path, str
        Where files go and what they are called.
    interval : int
        Steps between frames.
    restart, overwrite : bool
        Continue, or replace, what is there; without either existing files are an error.
    max_force : float
        eV/Å; a larger force ends the run.
    max_temperature_K : float, optional
        A higher temperature ends the run; default 10 times the set one, at least 10 000 K.
    progress : callable, optional
        Called after each frame.

    Raises
    ------
    FileExistsError, ValueError
        Before anything is written.
    SimulationError
        Names step, atom and value; the last good frame is in the trajectory.
    """
    settings = settings or MDSettings()
    if steps < 0 or interval < 1:
        raise ValueError(f"steps = {steps} and interval = {interval}: use steps >= 0 and interval >= 1")
    if atoms.calc is None:
        raise ValueError("the atoms have no calculator: set atoms.calc first")
    files = MDFiles(Path(folder), name)
    if files.existing and not (restart or overwrite):
        raise FileExistsError(f"{files.existing[0]} exists: continue with restart, or replace it with overwrite")
    run = _Run(atoms, settings, files, restart, max_force, max_temperature_K or max(10 * settings.temperature_K, 1e4))
    try:
        return run.to(steps, interval, progress)
    finally:
        run.close()


class _Run:
    """One run with its files open."""

    def __init__(
        self,
        atoms: Atoms,
        settings: MDSettings,
        files: MDFiles,
        restart: bool,
        max_force: float,
        max_temperature: float,
    ):
        self.atoms, self.settings, self.files = atoms, settings, files
        self.max_force, self.max_temperature = max_force, max_temperature
        self.rng = np.random.default_rng(settings.seed)
        self.step = 0
        state = read_state(files.restart) if restart else None
        if state is not None:
            self._restore_atoms(state)
        elif not atoms.has("momenta"):
            _draw_velocities(atoms, settings.temperature_K, self.rng)
        self._check(*self._evaluate())  # fail before the old files are touched
        self.columns = LOG_COLUMNS + (CELL_COLUMNS if _has_stress(atoms) else ())
        self.dynamics = build_dynamics(atoms, settings, self.rng)
        if state is not None:
            restore_integrator(self.dynamics, settings.ensemble, self.rng, state)
        self.trajectory = AppendedFile(files.trajectory, int(state["trajectory_bytes"]) if state else 0)
        self.log = AppendedFile(files.log, int(state["log_bytes"]) if state else 0)
        if state is None:
            files.restart.unlink(missing_ok=True)
            self.log.append(",".join(self.columns) + "\n")
            self._record()

    def to(self, steps: int, interval: int, progress: Callable[[MDProgress], None] | None) -> MDResult:
        """Run up to step number ``steps``."""
        first, started, interrupted = self.step, time.perf_counter(), False
        try:
            while self.step < steps:
                self._advance()
                if self.step % interval == 0 or self.step == steps:
                    self._record()
                    if progress is not None:
                        progress(self._progress(first, started))
        except KeyboardInterrupt:
            interrupted = True  # the restart point of the last frame stands
        speed = self._progress(first, started)
        rows = read_log(self.files.log)
        return MDResult(
            self.atoms,
            self.step,
            *_averages(rows),
            _drift(rows, len(self.atoms)),
            speed.steps_per_second,
            speed.ns_per_day,
            interrupted,
            self.files,
        )

    def close(self) -> None:
        """Close the files."""
        self.trajectory.close()
        self.log.close()

    def _advance(self) -> None:
        before = self.atoms.positions.copy(), self.atoms.get_momenta(), self.atoms.cell.array.copy()
        try:
            self.dynamics.step()  # type: ignore[attr-defined] # every integrator has it, their base not
            self._check(*self._evaluate())
        except (SimulationError, CalculatorError, ValueError) as error:
            positions, momenta, cell = before
            self.atoms.set_cell(cell)
            self.atoms.positions[:] = positions
            self.atoms.set_momenta(momenta)
            self.atoms.get_forces()
            self._append_frame()
            raise SimulationError(
                f"step {self.step + 1}: {error}; the last good frame (step {self.step}) is the last of "
                f"{self.files.trajectory}; try a smaller timestep, or check the model for this structure"
            ) from error
        self.step += 1

    def _evaluate(self) -> tuple[float, np.ndarray]:
        forces = self.atoms.get_forces()
        return self.atoms.get_potential_energy(), forces

    def _check(self, energy: float, forces: np.ndarray) -> None:
        lengths = np.linalg.norm(forces, axis=1)
        if not (np.isfinite(energy) and np.isfinite(lengths).all()):
            raise SimulationError("energy or forces are not finite")
        worst = int(lengths.argmax()) if len(lengths) else 0
        if len(lengths) and lengths[worst] > self.max_force:
            raise SimulationError(
                f"the force on atom {worst} ({self.atoms.symbols[worst]}) is {lengths[worst]:.4g} eV/Å, "
                f"above the limit of {self.max_force:g}"
            )
        temperature = self.atoms.get_temperature()
        if not temperature <= self.max_temperature:
            raise SimulationError(
                f"the temperature is {temperature:.4g} K, above the limit of {self.max_temperature:g}"
            )

    @property
    def _time_fs(self) -> float:
        return self.step * self.settings.timestep_fs

    def _append_frame(self) -> None:
        self.trajectory.append(frame_record(self.atoms, self.step, self._time_fs))
        atoms = self.atoms
        potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
        row = [self.step, self._time_fs / 1000, potential, kinetic, potential + kinetic, atoms.get_temperature()]
        if "volume_A3" in self.columns:
            pressure = -atoms.get_stress(voigt=False, include_ideal_gas=True).trace() / 3 / units.GPa
            row += [atoms.get_volume(), pressure]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(row)
        self.log.append(text.getvalue())

    def _record(self) -> None:
        """A frame, a row and the restart point that counts on them."""
        self._append_frame()
        atoms = self.atoms
        write_state(
            self.files.restart,
            {
                "step": np.array(self.step),
                "settings": np.array(self.settings.model_dump_json()),
                "numbers": atoms.numbers,
                "positions": atoms.positions,
                "momenta": atoms.get_momenta(),
                "cell": atoms.cell.array,
                "pbc": atoms.pbc,
                "trajectory_bytes": np.array(self.trajectory.sync()),
                "log_bytes": np.array(self.log.sync()),
                **integrator_state(self.dynamics, self.settings.ensemble, self.rng),
            },
        )

    def _restore_atoms(self, state: dict[str, np.ndarray]) -> None:
        if not np.array_equal(state["numbers"], self.atoms.numbers):
            raise ValueError(f"{self.files.restart} is of another structure: use another name, or overwrite")
        before = MDSettings.parse(json.loads(str(state["settings"])))
        if before != self.settings:
            changed = [k for k in MDSettings.model_fields if getattr(before, k) != getattr(self.settings, k)]
            raise ValueError(
                f"the run to continue had another {', '.join(changed)} "
                f"({', '.join(str(getattr(before, k)) for k in changed)}): use the same, or start anew"
            )
        self.step = int(state["step"])
        self.atoms.set_cell(state["cell"])
        self.atoms.pbc = state["pbc"]
        self.atoms.positions[:] = state["positions"]
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)

    def _progress(self, first: int, started: float) -> MDProgress:
        speed = (self.step - first) / max(time.perf_counter() - started, 1e-9)
        return MDProgress(
            self.step,
            self.atoms.get_potential_energy(),
            self.atoms.get_temperature(),
            speed,
            speed * self.settings.timestep_fs * 1e-6 * 86400,
        )


def _has_stress(atoms: Atoms) -> bool:
    if atoms.cell.rank < 3:
        return False
    try:
        atoms.get_stress()
    except PropertyNotImplementedError:
        return False
    return True


def _draw_velocities(atoms: Atoms, temperature_K: float, rng: np.random.Generator) -> None:
    thermalize_momenta(atoms, temperature_K=temperature_K, rng=rng)
    if len(atoms) > 1 and not atoms.constraints:
        Stationary(atoms)
        if not atoms.pbc.any() and len(atoms) > 2:
            ZeroRotation(atoms)


def read_log(path: str | Path) -> dict[str, np.ndarray]:
    """Columns of a run's log."""
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = rows[0].keys() if rows else LOG_COLUMNS
    return {name: np.array([float(row[name]) for row in rows]) for name in names}


def _averages(log: dict[str, np.ndarray]) -> tuple[float, float]:
    half = len(log["step"]) // 2
    return float(log["temperature_K"][half:].mean()), float(log["potential_eV"][half:].mean())


def _drift(log: dict[str, np.ndarray], num_atoms: int) -> float:
    """Slope of the total energy in meV/atom/ps."""
    if len(log["step"]) < 2 or num_atoms == 0:
        return 0.0
    return float(np.polyfit(log["time_ps"], log["total_eV"], 1)[0]) * 1000 / num_atoms
