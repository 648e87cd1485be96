"""Labels far from all others."""

from __future__ import annotations

import numpy as np

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.finding import Finding, count
from ase_equivariant.training.doctor.robust import robust_z
from ase_equivariant.training.references import least_squares_energies, species_of

# Thermal data stay below 6; strained and disordered sets are broad but have a broad middle too.
_FAR = 12.0
_HUGE = 50.0  # eV/Å, and at least five times the median
_FEWEST = 20
# eV per square root of atoms: differences of single frames below this are noise of any calculation.
_NOISE = 0.003
# Å, the displacement at which a straight path misses the energy by about its own curvature.
_PATH = 0.3


def check_outliers(data: Dataset) -> list[Finding]:
    """Energies and forces that stand out, and single energies that do not follow the forces around them."""
    return [*_check_energies(data), *_check_forces(data), *_check_disagreement(data)]


def _check_energies(data: Dataset) -> list[Finding]:
    """Energy per atom less what the composition explains."""
    places = [k for k, frame in enumerate(data.frames) if frame.energy is not None and not frame.is_isolated_atom]
    if len(places) < _FEWEST:
        return []
    frames = [data.frames[k] for k in places]
    species = species_of(frames)
    references = dict(zip(species, least_squares_energies(species, frames), strict=True))
    residuals = np.array(
        [
            (frame.energy - sum(references[symbol] for symbol in frame.atoms.get_chemical_symbols())) / len(frame.atoms)
            for frame in frames
            if frame.energy is not None
        ]
    )
    z = robust_z(residuals, floor=1e-4)
    far = np.flatnonzero(np.abs(z) > _FAR)
    if not len(far):
        return []
    worst = residuals[np.abs(z).argmax()]
    message = (
        f"energies of {count(len(far), 'frame')} stand out: up to {worst:+.3g} eV/atom beside the least-squares "
        f"energies of the elements, {np.abs(z).max():.0f} times the usual"
    )
    cure = "not converged, another state, or another program's zero? look at them"
    return [Finding("outliers", "warning", message, cure, data.numbers_of(np.array(places)[far]))]


def _check_forces(data: Dataset) -> list[Finding]:
    places = [k for k, frame in enumerate(data.frames) if frame.forces is not None and frame.forces.any()]
    if not places:
        return []
    largest = np.array([np.sqrt((np.asarray(data.frames[k].forces) ** 2).sum(axis=1).max()) for k in places])
    # logarithms: sizes of forces spread over decades; 0.1 is 10 %
    z = robust_z(np.log(largest), floor=0.1) if len(places) >= _FEWEST else np.zeros(len(places))
    far = np.flatnonzero((z > _FAR) | (largest > max(_HUGE, 5 * float(np.median(largest)))))
    if not len(far):
        return []
    message = f"forces of {count(len(far), 'frame')} stand out: up to {largest.max():.3g} eV/Å"
    message += f", where the median frame's largest is {np.median(largest):.3g}"
    cure = "not converged, or atoms too close? they pull on every batch"
    return [Finding("outliers", "warning", message, cure, data.numbers_of(np.array(places)[far]))]


def _check_disagreement(data: Dataset) -> list[Finding]:
    """A wrong energy disagrees with the forces in every pair its frame is in, its partners do so in one."""
    force, stress = data.slopes
    pairs = data.pairs
    if not force.known or len(pairs) < _FEWEST:
        return []
    work = force.value * pairs.force_work + (stress.value if stress.known else 1.0) * pairs.stress_work
    # what the path's curvature leaves out grows with the displacement
    allowed = np.abs(pairs.curvature) * pairs.distance / _PATH + _NOISE * np.sqrt(pairs.atoms)
    excess = np.abs(pairs.energy - work) / allowed
    scale = max(float(np.median(excess)), 0.125)
    wrong = []
    for k in range(len(data)):
        own = excess[(pairs.first == k) | (pairs.second == k)]
        if len(own) >= 2 and own.min() > _FAR * scale:
            wrong.append(k)
    if not wrong:
        return []
    message = f"energies of {count(len(wrong), 'frame')} do not follow the forces, those of other frames do"
    return [
        Finding("outliers", "warning", message, "a label that went wrong? compute it again", data.numbers_of(wrong))
    ]
