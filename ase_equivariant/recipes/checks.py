"""Several recipes on one system: what a potential should be seen to do before its results are believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError

from ase_equivariant.recipes.diffusion import Diffusion, diffusion
from ase_equivariant.recipes.distances import (
    DistanceDistribution,
    RadialDistribution,
    default_range_A,
    distance_distribution,
    distribution_difference,
    radial_distribution,
)
from ase_equivariant.recipes.elastic import ElasticResult, elastic_constants
from ase_equivariant.recipes.ensembles import MDSettings, build_dynamics
from ase_equivariant.recipes.limits import Limits, SimulationError
from ase_equivariant.recipes.phonons import PhononResult, phonons
from ase_equivariant.recipes.relax import relax
from ase_equivariant.recipes.stability import StabilityResult, stability
from ase_equivariant.recipes.temperature import degrees_of_freedom, draw_velocities, temperature_of
from ase_equivariant.recipes.torsion import TorsionScan, torsion_scan
from ase_equivariant.recipes.vibrations import VibrationalSpectrum, vibrational_spectrum

_FRAME_FS = 2.0  # twice as many as the fastest vibrations need
_APART = 25  # frames between those that count for distances


@dataclass(frozen=True)
class MoleculeCheck:
    """A molecule: distances beside those of reference frames, vibrations, torsion, stability.

    Attributes
    ----------
    distances, reference_distances : DistanceDistribution
        h(r) of our run and of the reference frames.
    difference : float
        ∫ |h − h_reference| dr.
    reference_noise : float
        What the number of reference frames alone makes of it: half the difference between two halves of them.
    temperature_K : float
        Mean of our run.
    spectrum : VibrationalSpectrum
        Of the run.
    torsion : TorsionScan or None
        If a dihedral was given.
    stability : StabilityResult or None
        If it was asked for.
    """

    distances: DistanceDistribution
    reference_distances: DistanceDistribution
    difference: float
    reference_noise: float
    temperature_K: float
    spectrum: VibrationalSpectrum
    torsion: TorsionScan | None
    stability: StabilityResult | None


@dataclass(frozen=True)
class CrystalCheck:
    """A crystal: lattice, elastic constants, phonons.

    Attributes
    ----------
    lengths_A, angles_deg : list of float
        Of the relaxed cell.
    volume_per_atom_A3 : float
        Å³.
    elastic : ElasticResult
        Of it.
    phonons : PhononResult
        Of it.
    """

    lengths_A: list[float]
    angles_deg: list[float]
    volume_per_atom_A3: float
    elastic: ElasticResult
    phonons: PhononResult


@dataclass(frozen=True)
class LiquidCheck:
    """A liquid or an ion conductor: radial distributions beside those of reference frames, vibrations, diffusion.

    Attributes
    ----------
    radial, reference_radial : RadialDistribution
        g(r) of our run and of the reference frames.
    spectrum : VibrationalSpectrum
        Of the run.
    diffusion : Diffusion
        Of the elements given.
    temperature_K : float
        Mean of our run.
    """

    radial: RadialDistribution
    reference_radial: RadialDistribution
    spectrum: VibrationalSpectrum
    diffusion: Diffusion
    temperature_K: float


def check_molecule(
    atoms: Atoms,
    reference: Sequence[Atoms],
    frames: Sequence[Atoms],
    calculator: Calculator,
    *,
    dihedral: Sequence[int] | None = None,
    stability_ps: float = 0.0,
    settings: MDSettings | None = None,
    processes: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> MoleculeCheck:
    """Check a molecule.

    Parameters
    ----------
    atoms : Atoms
        Relaxed, with a calculator of float64 for the torsion; not changed.
    reference : sequence of Atoms
        Reference frames of about the same temperature.
    frames : sequence of Atoms
        Of our own run, from :func:`sample`.
    calculator : Calculator
        For the dynamics of the stability.
    dihedral : sequence of 4 int, optional
        To scan.
    stability_ps : float
        Length of each of ten runs; 0 leaves them out.
    settings : MDSettings, optional
        Of those runs.
    processes, progress : int, callable, optional
        As of :func:`~ase_equivariant.recipes.stability.stability`.
    """
    moving = atoms.copy()
    moving.calc = calculator
    found, known = distance_distribution(frames), distance_distribution(reference)
    halves = [distance_distribution(reference[k::2]) for k in (0, 1)]
    return MoleculeCheck(
        found,
        known,
        distribution_difference(found, known),
        distribution_difference(*halves) / 2,
        _mean_temperature_K(frames),
        vibrational_spectrum(frames),
        None if dihedral is None else torsion_scan(atoms, dihedral),
        stability(moving, length_ps=stability_ps, settings=settings, processes=processes, progress=progress)
        if stability_ps
        else None,
    )


def check_crystal(atoms: Atoms, supercell: Sequence[int] | None = None) -> CrystalCheck:
    """Relax a crystal with its cell, in place, and compute elastic constants and phonons.

    Raises
    ------
    RuntimeError
        If it does not relax.
    """
    relaxed = relax(atoms, cell=True, fmax=1e-4)
    if not relaxed.converged:
        raise RuntimeError(f"the crystal does not relax (largest force {relaxed.max_force:.2g} eV/Å)")
    return CrystalCheck(
        atoms.cell.lengths().tolist(),
        atoms.cell.angles().tolist(),
        atoms.get_volume() / len(atoms),
        elastic_constants(atoms),
        phonons(atoms, supercell),
    )


def check_liquid(
    reference: Sequence[Atoms], frames: Sequence[Atoms], elements: str | Sequence[str] | None = None
) -> LiquidCheck:
    """Check a liquid or an ion conductor by a run of ours, from :func:`sample`, beside reference frames."""
    reach = min(default_range_A(frames), default_range_A(reference))  # the same bins make curves comparable
    return LiquidCheck(
        radial_distribution(frames[::_APART], r_max=reach),
        radial_distribution(reference, r_max=reach),
        vibrational_spectrum(frames),
        diffusion(frames, elements),
        _mean_temperature_K(frames),
    )


def sample(
    atoms: Atoms,
    length_ps: float,
    settings: MDSettings,
    *,
    discard_ps: float = 5.0,
    progress: Callable[[float], None] | None = None,
) -> list[Atoms]:
    """Run dynamics of ``discard_ps`` + ``length_ps`` and give the latter part, a frame every 2 fs.

    Frames stay in memory: writing each of them safely, as :func:`ase_equivariant.recipes.md.run_md` does, would take
    longer than the dynamics of a small molecule.

    Parameters
    ----------
    atoms : Atoms
        With a calculator; changed in place.
    length_ps, discard_ps : float
        Kept, and left out before.
    settings : MDSettings
        Ensemble, temperature, time step …
    progress : callable, optional
        Called with the time in ps at every thousandth frame.

    Returns
    -------
    list of Atoms
        With momenta and ``info["time_fs"]``, without calculator.

    Raises
    ------
    ValueError
        If there is no time to keep; and what the calculator raises for ``atoms`` as they are.
    SimulationError
        If the dynamics left the physical, as that of :func:`~ase_equivariant.recipes.md.run_md`; names the time.
    """
    every, first, last = _sampled_steps(length_ps, settings, discard_ps)
    atoms.get_forces()  # atoms that the calculator does not take at all are refused as it does
    rng = np.random.default_rng(settings.seed)
    draw_velocities(atoms, settings.temperature_K, rng)
    dof, limits = degrees_of_freedom(atoms, settings.ensemble), Limits.of(settings)
    dynamics = build_dynamics(atoms, settings, rng)
    frames: list[Atoms] = []
    for step in range(1, last + 1):
        time_fs = step * settings.timestep_fs
        try:
            dynamics.step()  # type: ignore[attr-defined] # every integrator has it, their base not
            if step % every:
                continue
            limits.check(atoms, dof)
        except (SimulationError, CalculatorError, ValueError) as error:
            raise SimulationError(
                f"after {time_fs / 1000:g} ps: {error}; try a smaller timestep, or check the model for this structure"
            ) from error
        if step > first:
            frame = atoms.copy()  # without calculator
            frame.info["time_fs"] = time_fs
            frames.append(frame)
        if progress is not None and step % (1000 * every) == 0:
            progress(time_fs / 1000)
    return frames


def sampled_frames(length_ps: float, settings: MDSettings, discard_ps: float = 5.0) -> tuple[int, float]:
    """How many frames :func:`sample` will give, and how many fs they are apart.

    Raises
    ------
    ValueError
        As that.
    """
    every, first, last = _sampled_steps(length_ps, settings, discard_ps)
    return last // every - first // every, every * settings.timestep_fs


def _sampled_steps(length_ps: float, settings: MDSettings, discard_ps: float) -> tuple[int, int, int]:
    """Steps between frames, to the first and to the last."""
    if not (0 < length_ps < np.inf and 0 <= discard_ps < np.inf):
        raise ValueError(f"{length_ps:g} ps of dynamics after {discard_ps:g} ps: use a time above 0")
    every = max(1, round(_FRAME_FS / settings.timestep_fs))
    first, last = (round(1000 * ps / settings.timestep_fs) for ps in (discard_ps, discard_ps + length_ps))
    return every, first, last


def _mean_temperature_K(frames: Sequence[Atoms]) -> float:
    dof = degrees_of_freedom(frames[-1])
    return float(np.mean([temperature_of(frame, dof) for frame in frames]))
