"""Molecular dynamics that can be killed at any moment and goes on as if it had not been."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError, PropertyNotImplementedError
from ase.io.jsonio import encode

from ase_equivariant.recipes.ensembles import MDSettings, build_dynamics, integrator_state, restore_integrator
from ase_equivariant.recipes.limits import Limits, SimulationError
from ase_equivariant.recipes.md_files import AppendedFile, MDFiles, frame_record, read_state, with_results, write_state
from ase_equivariant.recipes.md_log import CELL_COLUMNS, LOG_COLUMNS, averages, drift, log_header, log_row, read_log
from ase_equivariant.recipes.temperature import degrees_of_freedom, draw_velocities, temperature_of


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
    steps, and at the end. After a kill, the same call with ``restart=True`` continues from the last restart
    point: no frame is lost or doubled, and the trajectory is that of an uninterrupted run. With more ``steps`` it
    makes a run longer; a last frame between two intervals is then taken away.

    Parameters
    ----------
    atoms : Atoms
        With a calculator; changed in place. Velocities are drawn from the Maxwell-Boltzmann
        distribution (without drift, and without rotation for a molecule) if there are none, or none but zero.
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
        Called when the run begins, after all that could be refused has been, and after each frame.

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
    if not len(atoms):
        raise ValueError("the structure has no atoms: there is nothing that moves")
    files = MDFiles(Path(folder), name)
    if files.existing and not (restart or overwrite):
        raise FileExistsError(f"{files.existing[0]} exists: continue with restart, or replace it with overwrite")
    run = _Run(atoms, settings, files, restart, Limits.of(settings, max_force, max_temperature_K), interval)
    try:
        return run.to(steps, progress)
    finally:
        run.close()


class _Run:
    """One run with its files open."""

    def __init__(
        self, atoms: Atoms, settings: MDSettings, files: MDFiles, restart: bool, limits: Limits, interval: int
    ):
        self.atoms, self.settings, self.files, self.limits = atoms, settings, files, limits
        self.interval = interval
        self.rng = np.random.default_rng(settings.seed)
        self.step, self.recorded = 0, -1
        state = read_state(files.restart) if restart else None
        if state is not None:
            self._restore_atoms(state)
        elif not atoms.get_momenta().any():  # VASP writes velocities of zero after a relaxation
            draw_velocities(atoms, settings.temperature_K, self.rng)
        self.dof = degrees_of_freedom(atoms, settings.ensemble)
        limits.check(atoms, self.dof)  # fail before the old files are touched
        self.columns = LOG_COLUMNS + (CELL_COLUMNS if _has_stress(atoms) else ())
        self.dynamics = build_dynamics(atoms, settings, self.rng)
        if state is not None:
            restore_integrator(self.dynamics, settings.ensemble, self.rng, state)
        frame_record(atoms, self.step, self._time_fs)  # refuse what cannot be written, too
        self._open_files(state)
        if state is None:
            files.restart.unlink(missing_ok=True)
            self.log.append(log_header(self.columns))
            self._record()

    def _open_files(self, state: dict[str, np.ndarray] | None) -> None:
        self.trajectory = AppendedFile(self.files.trajectory, int(state["trajectory_bytes"]) if state else 0)
        try:
            self.log = AppendedFile(self.files.log, int(state["log_bytes"]) if state else 0)
        except Exception:
            self.trajectory.close()
            raise

    def to(self, steps: int, progress: Callable[[MDProgress], None] | None) -> MDResult:
        """Run up to step number ``steps``."""
        first, started, interrupted = self.step, time.perf_counter(), False
        try:
            if progress is not None:
                progress(self._progress(first, started))
            while self.step < steps:
                self._advance()
                between = self.step % self.interval != 0
                if between and self.step < steps:
                    continue
                self._record(between)
                if progress is not None:
                    progress(self._progress(first, started))
            if self.recorded < self.step:  # nothing was to be done, and the restart took the last frame away
                self._record(between=True)
        except KeyboardInterrupt:
            interrupted = True  # the restart point of the last frame stands
        speed = self._progress(first, started)
        rows = read_log(self.files.log)
        return MDResult(
            self.atoms,
            self.step,
            *averages(rows),
            drift(rows, len(self.atoms)),
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
        atoms = self.atoms
        before = atoms.positions.copy(), atoms.get_momenta(), atoms.cell.array.copy(), _results_of(atoms)
        try:
            self.dynamics.step()  # type: ignore[attr-defined] # every integrator has it, their base not
            self.limits.check(atoms, self.dof)
        except (SimulationError, CalculatorError, ValueError) as error:
            positions, momenta, cell, results = before
            atoms.set_cell(cell)
            atoms.positions[:] = positions
            atoms.set_momenta(momenta, apply_constraint=False)
            if self.recorded < self.step:
                self._append_frame(with_results(atoms, results))  # the calculator may not give them again
            raise SimulationError(
                f"step {self.step + 1}: {error}; the last good frame (step {self.step}) is the last of "
                f"{self.files.trajectory}; try a smaller timestep, or check the model for this structure"
            ) from error
        self.step += 1

    @property
    def _time_fs(self) -> float:
        return self.step * self.settings.timestep_fs

    def _append_frame(self, atoms: Atoms) -> None:
        self.trajectory.append(frame_record(atoms, self.step, self._time_fs))
        self.log.append(log_row(self.columns, atoms, self.step, self._time_fs, temperature_of(atoms, self.dof)))
        self.recorded = self.step

    def _record(self, between: bool = False) -> None:
        """A frame, a row and the restart point that counts on them; not on those of a run's end between two frames.

        Those go when the run is continued, as one that was never stopped would not have them.
        """
        atoms, recorded, kept = self.atoms, self.recorded, self._sizes() if between else None
        self._append_frame(atoms)
        sizes = self._sizes()
        write_state(
            self.files.restart,
            {
                "step": np.array(self.step),
                "interval": np.array(self.interval),
                "recorded": np.array(recorded if between else self.step),
                "settings": np.array(self.settings.model_dump_json()),
                "calculator": np.array(_identity(atoms.calc)),
                "numbers": atoms.numbers,
                "positions": atoms.positions,
                "momenta": atoms.get_momenta(),
                "cell": atoms.cell.array,
                "pbc": atoms.pbc,
                "masses": atoms.get_masses(),
                "constraints": np.array(_constraints(atoms)),
                **(kept or sizes),
                **integrator_state(self.dynamics, self.settings.ensemble, self.rng),
            },
        )

    def _sizes(self) -> dict[str, np.ndarray]:
        """Bring both files to the disk."""
        return {"trajectory_bytes": np.array(self.trajectory.sync()), "log_bytes": np.array(self.log.sync())}

    def _restore_atoms(self, state: dict[str, np.ndarray]) -> None:
        if not np.array_equal(state["numbers"], self.atoms.numbers):
            raise ValueError(f"{self.files.restart} is of another structure: use another name, or overwrite")
        # Restart files of earlier versions have neither masses nor constraints nor an interval.
        if not np.array_equal(state.get("masses", self.atoms.get_masses()), self.atoms.get_masses()):
            raise ValueError(
                f"the run to continue ({self.files.restart}) had other masses: set the same, or start anew"
            )
        if str(state.get("constraints", _constraints(self.atoms))) != _constraints(self.atoms):
            raise ValueError(
                f"the run to continue had other constraints ({state['constraints']}, now {_constraints(self.atoms)}): "
                "set the same, or start anew"
            )
        before = MDSettings.parse(json.loads(str(state["settings"])))
        if before != self.settings:
            changed = [k for k in MDSettings.model_fields if getattr(before, k) != getattr(self.settings, k)]
            raise ValueError(
                f"the run to continue had another {', '.join(changed)} "
                f"({', '.join(str(getattr(before, k)) for k in changed)}): use the same, or start anew"
            )
        _refuse_other_calculator(json.loads(str(state["calculator"])), json.loads(_identity(self.atoms.calc)))
        if (interval := int(state.get("interval", self.interval))) != self.interval:
            raise ValueError(
                f"the run to continue wrote a frame every {interval} steps, now every {self.interval}: "
                "use the same interval, as trajectories are analysed by it, or start anew"
            )
        self.step = int(state["step"])
        self.recorded = int(state.get("recorded", state["step"]))
        self.atoms.set_cell(state["cell"])
        self.atoms.pbc = state["pbc"]
        self.atoms.positions[:] = state["positions"]
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)

    def _progress(self, first: int, started: float) -> MDProgress:
        speed = (self.step - first) / max(time.perf_counter() - started, 1e-9)
        return MDProgress(
            self.step,
            self.atoms.get_potential_energy(),
            temperature_of(self.atoms, self.dof),
            speed,
            speed * self.settings.timestep_fs * 1e-6 * 86400,
        )


def _results_of(atoms: Atoms) -> dict[str, Any]:
    """The results as they are now; a calculator may reuse its arrays."""
    assert atoms.calc is not None
    return {
        name: copy(atoms.calc.results[name]) for name in ("energy", "forces", "stress") if name in atoms.calc.results
    }


def _identity(calculator: Any) -> str:
    """What makes forces the same: the calculator's kind and settings (of a model: its sha256), as JSON."""
    settings = calculator.todict() if hasattr(calculator, "todict") else {}
    kept = {key: value for key, value in settings.items() if key not in ("version", "device", "skin", "preset")}
    return encode({"calculator": type(calculator).__name__, **kept})


def _constraints(atoms: Atoms) -> str:
    """The constraints as JSON; of one that cannot be written its kind."""
    return encode([c.todict() if hasattr(c, "todict") else type(c).__name__ for c in atoms.constraints])


def _refuse_other_calculator(before: dict[str, Any], now: dict[str, Any]) -> None:
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"the run to continue had another calculator ({key} = {before.get(key)}, now {now.get(key)}): "
                "use the same, or start anew"
            )


def _has_stress(atoms: Atoms) -> bool:
    if atoms.cell.rank < 3:
        return False
    try:
        atoms.get_stress()
    except PropertyNotImplementedError:
        return False
    return True
