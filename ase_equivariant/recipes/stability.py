"""How long simulations of a molecule stay physical."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculatorError

from ase_equivariant.recipes.bonds import bonds_of
from ase_equivariant.recipes.ensembles import MDSettings, build_dynamics
from ase_equivariant.recipes.temperature import degrees_of_freedom, draw_velocities, temperature_of


@dataclass(frozen=True)
class StabilityResult:
    """What runs of molecular dynamics came to.

    Attributes
    ----------
    length_ps : float
        Of a run that does not fail.
    survived_ps : ndarray
        (runs,) time of each until a bond broke; ``length_ps`` if none did.
    failed : ndarray
        (runs,) whether one did.
    mean_time_to_failure_ps : float
        Total simulated time over the number of failures, the maximum-likelihood estimate for a constant rate;
        infinite if nothing failed.
    largest_deviation_A : ndarray
        (runs,) of any bond from its reference length.
    mean_temperature_K : ndarray
        (runs,) over the second half.
    bonds : ndarray
        (bonds, 2) watched.
    tolerance_A : float
        Largest deviation allowed.
    """

    length_ps: float
    survived_ps: np.ndarray
    failed: np.ndarray
    mean_time_to_failure_ps: float
    largest_deviation_A: np.ndarray
    mean_temperature_K: np.ndarray
    bonds: np.ndarray
    tolerance_A: float


def bond_deviation(positions: np.ndarray, bonds: np.ndarray, lengths: np.ndarray) -> float:
    """Largest deviation in Å of ``bonds`` (bonds, 2) from ``lengths``; infinite if positions are not finite."""
    vectors = positions[bonds[:, 0]] - positions[bonds[:, 1]]
    worst = float(np.abs(np.sqrt(np.square(vectors).sum(axis=1)) - lengths).max())
    return worst if np.isfinite(worst) else float("inf")


def first_failure(frames: Sequence[Atoms], reference: Atoms, tolerance_A: float = 0.5) -> int | None:
    """First frame in which a bond of ``reference`` deviates by more than ``tolerance_A``, None if there is none."""
    bonds, lengths = _bonds(reference)
    for k, frame in enumerate(frames):
        if bond_deviation(frame.positions, bonds, lengths) > tolerance_A:
            return k
    return None


def stability(
    atoms: Atoms,
    *,
    runs: int = 10,
    length_ps: float = 100.0,
    settings: MDSettings | None = None,
    tolerance_A: float = 0.5,
    check_every: int = 10,
    processes: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> StabilityResult:
    """Run molecular dynamics from ``atoms`` with different seeds until a bond breaks.

    A run fails when a bond differs by more than ``tolerance_A`` from its length in ``atoms``, or when the calculator
    gives up. Nothing is written.

    Parameters
    ----------
    atoms : Atoms
        A molecule near equilibrium, with a calculator; not changed.
    runs, length_ps : int, float
        How many, and how long.
    settings : MDSettings, optional
        Default Langevin at 500 K; run k has its seed plus k.
    tolerance_A : float
        Deviation of a bond that counts as failure.
    check_every : int
        Steps between checks.
    processes : int
        Runs at a time, each in a process with one thread, for which the calculator is pickled; as with all of
        Python's processes, a program that asks for several begins with ``if __name__ == "__main__":``.
    progress : callable, optional
        Called with the run's number and its time in ps at every thousandth check; of several processes, when it is
        over.

    Raises
    ------
    ValueError
        If there is no calculator, no bond, or the atoms are periodic; and what the calculator raises for ``atoms``.

    References
    ----------
    Fu et al., arXiv:2210.07237 (2022).
    """
    settings = settings or MDSettings(temperature_K=500.0)
    steps = round(1000 * length_ps / settings.timestep_fs)
    if atoms.calc is None:
        raise ValueError("the atoms have no calculator: set atoms.calc first")
    if atoms.pbc.any():
        raise ValueError("the bond criterion is for molecules without periodic boundaries")
    if runs < 1 or steps < check_every or check_every < 1 or processes < 1:
        given = {"runs": runs, "length_ps": length_ps, "check_every": check_every, "processes": processes}
        raise ValueError(f"{', '.join(f'{name} = {value}' for name, value in given.items())}: use more of each")
    bonds, lengths = _bonds(atoms)
    start = atoms.copy()
    start.calc = atoms.calc
    start.get_forces()  # a molecule that the calculator does not take at all is no failure of a run
    watched = (bonds, lengths, tolerance_A)
    seeds = [settings.model_copy(update={"seed": settings.seed + run}) for run in range(runs)]
    outcomes = []
    if processes == 1:
        for run, own in enumerate(seeds):
            report = None if progress is None else (lambda time, run=run: progress(run, time))
            outcomes.append(_one_run(atoms, own, steps, check_every, watched, report))
    else:  # fresh processes: copies of this one may hold locks of threads that they do not have
        with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            same = (repeat(steps), repeat(check_every), repeat(watched))
            for run, outcome in enumerate(pool.map(_one_run, repeat(atoms), seeds, *same)):
                outcomes.append(outcome)
                if progress is not None:
                    progress(run, outcome[0] * settings.timestep_fs / 1000)
    survived, deviations, temperatures = (np.array(column, dtype=float) for column in zip(*outcomes, strict=True))
    failed, times = survived < steps, survived * settings.timestep_fs / 1000
    mean_time = float(times.sum() / failed.sum()) if failed.any() else float("inf")
    return StabilityResult(length_ps, times, failed, mean_time, deviations, temperatures, bonds, tolerance_A)


def _bonds(reference: Atoms) -> tuple[np.ndarray, np.ndarray]:
    bonds = bonds_of(reference)
    if not len(bonds):
        raise ValueError(f"there is no bond in {reference.symbols}: the criterion watches bonds")
    return bonds, np.linalg.norm(reference.positions[bonds[:, 0]] - reference.positions[bonds[:, 1]], axis=1)


def _one_run(
    atoms: Atoms,
    settings: MDSettings,
    steps: int,
    check_every: int,
    watched: tuple[np.ndarray, np.ndarray, float],
    report: Callable[[float], None] | None = None,
) -> tuple[int, float, float]:
    """Steps survived, largest deviation in Å, mean temperature in K of the second half."""
    bonds, lengths, tolerance = watched
    moving = atoms.copy()
    moving.calc = atoms.calc
    rng = np.random.default_rng(settings.seed)
    draw_velocities(moving, settings.temperature_K, rng)
    dynamics, dof = build_dynamics(moving, settings, rng), degrees_of_freedom(moving, settings.ensemble)
    worst, temperatures = 0.0, []
    for step in range(1, steps + 1):
        try:
            dynamics.step()  # type: ignore[attr-defined] # every integrator has it, their base not
        except (CalculatorError, ValueError):  # atoms that left each other, or sit on one another
            return step - 1, float("inf"), float("nan")
        if step % check_every:
            continue
        worst = max(worst, bond_deviation(moving.positions, bonds, lengths))
        if worst > tolerance:
            return step - 1, worst, float("nan")
        if 2 * step > steps:
            temperatures.append(temperature_of(moving, dof))
        if report is not None and step % (1000 * check_every) == 0:
            report(step * settings.timestep_fs / 1000)
    return steps, worst, float(np.mean(temperatures)) if temperatures else float("nan")
