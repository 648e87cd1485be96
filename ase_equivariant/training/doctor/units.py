"""Which units the labels are in: what energies, forces, bonds and lengths say together."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from ase.units import Bohr

from ase_equivariant.training.doctor.bonds import bond_stiffness
from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.finding import Finding
from ase_equivariant.training.doctor.hypotheses import (
    READABLE,
    REFUTED,
    Evidence,
    Hypothesis,
    is_a_unit,
    likely,
    misfit,
)
from ase_equivariant.training.doctor.totals import total_over_statistical

_NOBLE = (2, 10, 18, 36, 54, 86)
# Nearest neighbours' distance over the sum of covalent radii, median: molecules 1.0, metals and salts 0.86 to 1.2.
_SHORT, _LONG = 0.65, 1.5
# Root mean square of the median frame, eV/Å: molecules at 300 K have 1, and no sensible data set this.
_LARGE_FORCE = 8.0
# Pairs so near (Å), or the nearest if those are few, must show that the energy follows the forces: where labels are
# right ranks of the two correlate by 0.85 and more, up to the farthest pairs that there are.
_NEAR, _FEW_PAIRS, _ENOUGH_PAIRS, _UNRELATED = 0.12, 30, 100, 0.3
# Where nearly all pairs have as many atoms, energies per atom and in whole follow the work equally well.
_AS_WELL = 1.2


def check_units(data: Dataset) -> list[Finding]:
    """Units of lengths, energies and forces, and the sign of the forces."""
    spacing = _spacing(data)
    lengths, stretch = _check_lengths(data, spacing)
    slope, _ = data.slopes
    read = Hypothesis(data.units, data.units, data.length)
    total = total_over_statistical(data)
    evidence = Evidence(
        read,
        slope=slope.value if slope.known else None,
        slope_error=slope.error / abs(slope.value) if slope.known else 0.0,
        stiffness=bond_stiffness(data),
        total=total if total is not None and is_a_unit(total, read) else None,
        stretch=stretch,
    )
    return lengths + _check_labels(data, evidence)


def _check_lengths(data: Dataset, spacing: float | None) -> tuple[list[Finding], float]:
    """What nearest distances say, and how many times too long positions are."""
    if spacing is None or _SHORT <= spacing <= _LONG:
        return [], 1.0
    says = f"nearest neighbours are {spacing:.2f} times as far as the sum of their covalent radii (median)"
    if spacing > _LONG and data.length == "Angstrom":
        cure = "read with --length-units Bohr; for training, data.length_units = 'Bohr'"
        return [Finding("units", "error", f"{says}: positions look like Bohr", cure)], 1 / Bohr
    if spacing < _SHORT and data.length == "Bohr":
        return [Finding("units", "error", f"{says}: positions look like Å", "read without --length-units Bohr")], Bohr
    cure = "nm, fractional coordinates or a unit applied twice? convert the positions to Å"
    return [Finding("units", "error", f"{says}: positions are not in Å", cure)], 1.0


def _check_sign(data: Dataset, evidence: Evidence) -> list[Finding]:
    """Energies tell the product of their sign and that of forces, bonds that of forces alone."""
    slope, stiffness = evidence.slope or 0.0, evidence.stiffness or 0.0
    if slope >= 0 and stiffness >= 0:
        return []
    says = []
    if slope:
        says.append(f"energies change by {slope:.3g} times the work of the forces")
    if stiffness:
        says.append(f"stretched X-H bonds {'push outwards' if stiffness < 0 else 'pull back as they should'}")
    if slope > 0:
        wrong, cure = "energies and forces have the wrong sign", "multiply both by −1 in the file"
    elif stiffness > 0:
        wrong, cure = "the energies have the wrong sign", "multiply them, not the forces, by −1 in the file"
    elif not stiffness and data.stress_is_against_energies:
        says.append("under strain they go against the work of stress, too")
        wrong = "energies, or both forces and stress, have the wrong sign"
        cure = "compare with the source, then multiply energies, or forces and stress, by −1 in the file"
    else:
        wrong = f"the forces{' and the stress' if data.stress_is_against_energies else ''} have the wrong sign"
        cure = "gradients? multiply them by −1 in the file"
    return [Finding("forces", "error", f"{'; '.join(says)}: {wrong}", cure)]


def _check_labels(data: Dataset, evidence: Evidence) -> list[Finding]:
    measured, read = _describe(data, evidence), evidence.read
    if evidence.slope is None and (unrelated := _unrelated(data)):
        return unrelated
    if evidence.empty:
        return [_untold(data, measured)]
    if misfit(read, evidence) < REFUTED:
        sign = _check_sign(data, evidence)
        if not evidence.absolute:
            return [*sign, _untold(data, measured)]
        says = f"labels agree with {read.energy} and {read.force}: {measured}{_unproven(data)}"
        return sign or [Finding("units", "note", says)]
    length = _true_length(data, evidence)
    best = likely(evidence, _divisor(data), length)
    if not best:  # nor is a negative slope that is no unit's a matter of sign
        cure = "labels of different calculations or frames, or a unit unknown here? compare with the source"
        return [Finding("units", "error", f"energies and forces do not belong together: {measured}", cure)]
    sign = _check_sign(data, evidence)
    if _mended_by_lengths(best[0], read, length):
        return sign or [Finding("units", "note", f"apart from lengths, labels agree with {read.energy}: {measured}")]
    with_forces = evidence.slope is not None or evidence.stiffness is not None
    says = " or ".join(_name(hypothesis, with_forces) for hypothesis in best)
    message = f"read as {read.energy} and {read.force}, but {measured}: looks like {says}"
    return [*sign, Finding("units", "error", message, _cure(best[0], length))]


def _divisor(data: Dataset) -> int | None:
    """What energies per atom were divided by: the number of atoms, of several that which speaks for the pairs."""
    sizes = {len(frame.atoms) for frame in data.frames}
    if len(sizes) == 1:
        return sizes.pop()
    slope, times_atoms = data.slopes[0], data.slope_times_atoms
    # Energies of whole frames follow the work worse once they are multiplied.
    if not times_atoms.known or times_atoms.relative_error > _AS_WELL * slope.relative_error:
        return None
    return round(times_atoms.value / slope.value) if slope.value else None


def _mended_by_lengths(best: Hypothesis, read: Hypothesis, length: str) -> bool:
    """Whether reading the lengths right, as another finding says, mends the labels too."""
    return length != read.length and best == Hypothesis(read.energy, read.energy, length)


def _true_length(data: Dataset, evidence: Evidence) -> str:
    if evidence.stretch == 1.0:
        return data.length
    return "Bohr" if data.length == "Angstrom" else "Angstrom"


def _name(hypothesis: Hypothesis, with_forces: bool) -> str:
    energy = hypothesis.energy + (" per atom" if hypothesis.per_atom > 1 else "")
    return f"energies in {energy}" + (f" with forces in {hypothesis.force}" if with_forces else "")


def _cure(hypothesis: Hypothesis, length: str) -> str:
    same = hypothesis.energy == hypothesis.force_energy and hypothesis.length == length and hypothesis.per_atom == 1
    if same and hypothesis.energy in READABLE:
        return f"read with --units {hypothesis.energy}; for training, data.units = {hypothesis.energy!r}"
    return "convert energies to eV and forces to eV/Å in the file: no one unit describes both"


def _describe(data: Dataset, evidence: Evidence) -> str:
    slope, _ = data.slopes
    says = []
    if evidence.slope is not None:
        says.append(
            f"energies change by {evidence.slope:.3g} ± {slope.error:.1g} times the work of the forces "
            f"({slope.pairs} pairs of near frames)"
        )
    if evidence.stiffness is not None:
        says.append(f"X-H bonds are {evidence.stiffness:.3g} times as stiff as usual")
    if evidence.total is not None:
        says.append(f"energies are {evidence.total:.3g} times those of the free atoms with all electrons")
    return "; ".join(says)


def _unrelated(data: Dataset) -> list[Finding]:
    """Frames that hardly differ, and energies that do not care what the forces say."""
    pairs = data.pairs
    count = max(int((pairs.distance < _NEAR).sum()), min(_ENOUGH_PAIRS, len(pairs)))
    work, energy = (pairs.force_work + pairs.stress_work)[:count], pairs.energy[:count]
    if count < _FEW_PAIRS or work.std() == 0 or energy.std() == 0:
        return []
    order = np.argsort(np.argsort(work)), np.argsort(np.argsort(energy))  # ranks: a few wrong labels decide nothing
    correlation = float(np.corrcoef(*order)[0, 1])
    if abs(correlation) > _UNRELATED:
        return []
    message = (
        f"energies do not follow the forces: correlation {correlation:.2f} over {count} pairs of frames "
        f"{pairs.distance[count - 1]:.2f} Å apart or less"
    )
    return [Finding("units", "warning", message, "labels shuffled, or of different calculations?")]


def _unproven(data: Dataset) -> str:
    """What stays open where both labels are there and no frames are near enough for a slope."""
    both = any(frame.energy is not None and frame.forces is not None for frame in data.frames)
    if not both or data.slopes[0].known:
        return ""
    return "; whether energies belong to these forces, these frames cannot tell"


def _untold(data: Dataset, measured: str) -> Finding:
    """Nothing absolute was found; only the size of the forces is left."""
    forces = [frame.forces for frame in data.frames if frame.forces is not None and frame.forces.any()]
    size = float(np.median([np.sqrt((f**2).sum(axis=1).mean()) for f in forces])) if forces else 0.0
    why = "no X-H bonds to compare with, and energies are not totals of all electrons"
    if size > _LARGE_FORCE:
        message = f"forces of {size:.3g} eV/Å (root mean square, median frame) are unusually large; {measured or why}"
        return Finding("units", "warning", message, "kcal/mol or kJ/mol? compare with the source")
    message = f"cannot tell whether labels are in {data.units}: {why}"
    message += f"; {measured}" if measured else ""
    return Finding("units", "note", message + _unproven(data))


def _spacing(data: Dataset) -> float | None:
    ratios = []
    for frame, geometry in zip(data.frames, data.geometry, strict=True):
        numbers = frame.atoms.numbers
        usable = (geometry.neighbor >= 0) & ~np.isin(numbers, _NOBLE)
        radii = covalent_radii[numbers] + covalent_radii[numbers[geometry.neighbor]]
        ratios.append((geometry.nearest / radii)[usable])
    joined = np.concatenate(ratios) if ratios else np.zeros(0)
    return float(np.median(joined)) if len(joined) else None
