"""Which units explain what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from ase.units import Bohr, Hartree, Ry, kcal, kJ, mol

# eV; the first four can be asked for in a configuration.
ENERGIES = {"eV": 1.0, "kcal/mol": kcal / mol, "kJ/mol": kJ / mol, "Hartree": Hartree, "Rydberg": Ry, "meV": 1e-3}
READABLE = ("eV", "kcal/mol", "kJ/mol", "Hartree")
LENGTHS = {"Angstrom": 1.0, "Bohr": Bohr}
# Scatter of the logarithm of each kind of evidence.
_SLOPE, _BOND, _TOTAL = 0.15, 0.45, 0.02
# How much an unusual unit needs in its favour, in squared deviations, and what refutes one or tells two apart.
_MIXED, _RARE, _PER_ATOM = 4.0, 3.0, 5.0
REFUTED, _CLOSE = 9.0, 5.0


@dataclass(frozen=True)
class Hypothesis:
    """Units in the file: of energy (divided by ``per_atom`` atoms), of force, and of length as in force."""

    energy: str
    force_energy: str
    length: str = "Angstrom"
    per_atom: int = 1

    @property
    def force(self) -> str:
        """The force's unit in full."""
        return f"{self.force_energy}/{'Å' if self.length == 'Angstrom' else self.length}"

    @property
    def energy_factor(self) -> float:
        """eV per unit of energy of the file."""
        return ENERGIES[self.energy] * self.per_atom

    @property
    def force_factor(self) -> float:
        """eV/Å per unit of force of the file."""
        return ENERGIES[self.force_energy] / LENGTHS[self.length]


@dataclass(frozen=True)
class Evidence:
    """What the data say of their units, labels as they were read with ``read``.

    Attributes
    ----------
    read : Hypothesis
        The units that were applied.
    slope, slope_error : float or None
        Energy change over the work of forces, and its relative error; None if no frames are near enough.
    stiffness : float or None
        X-H bonds' force constant over the expected one.
    total : float or None
        Energy over the sum of free atoms' energies, where that is the number of some unit.
    stretch : float
        How many times too long the positions were read.
    """

    read: Hypothesis
    slope: float | None = None
    slope_error: float = 0.0
    stiffness: float | None = None
    total: float | None = None
    stretch: float = 1.0

    @property
    def empty(self) -> bool:
        """Whether nothing was measured."""
        return self.slope is None and self.stiffness is None and self.total is None

    @property
    def absolute(self) -> bool:
        """Whether more is known than that energies and forces agree with each other."""
        return self.stiffness is not None or self.total is not None


def misfit(hypothesis: Hypothesis, evidence: Evidence) -> float:
    """Sum of squared deviations of what was measured from what it should be, in units of their scatter.

    A label read with the factor c of a unit that is f comes out c/f times too large.
    """
    energy = evidence.read.energy_factor / hypothesis.energy_factor
    force = evidence.read.force_factor / hypothesis.force_factor
    chi = 0.0
    if evidence.slope is not None:
        scatter = math.hypot(_SLOPE, evidence.slope_error)
        chi += (math.log(abs(evidence.slope) * force * evidence.stretch / energy) / scatter) ** 2
    if evidence.stiffness is not None:
        chi += (math.log(abs(evidence.stiffness) / force) / _BOND) ** 2
    if evidence.total is not None:
        chi += (math.log(evidence.total / energy) / _TOTAL) ** 2
    return chi


def likely(evidence: Evidence, num_atoms: int | None, length: str) -> list[Hypothesis]:
    """Hypotheses that explain the evidence, the best first, at most three; none if nothing does.

    Parameters
    ----------
    evidence : Evidence
        What was measured.
    num_atoms : int or None
        Of every frame, if all have as many: energies may then have been divided by it.
    length : str
        Unit the positions are in, as their distances say.
    """
    if evidence.slope is None and evidence.stiffness is None:
        hypotheses = [Hypothesis(energy, energy, length) for energy in ENERGIES]
    else:
        hypotheses = [Hypothesis(*units) for units in product(ENERGIES, ENERGIES, LENGTHS)]
        if num_atoms is not None and num_atoms > 1:
            hypotheses += [Hypothesis(unit, unit, "Angstrom", num_atoms) for unit in READABLE]
    # rounded: of those that explain it equally well the more common unit is first
    ranked = sorted((round(misfit(h, evidence) + _penalty(h, length), 6), k) for k, h in enumerate(hypotheses))
    fitting = [hypotheses[k] for score, k in ranked if score < ranked[0][0] + _CLOSE]
    return fitting[:3] if misfit(fitting[0], evidence) < REFUTED else []


def is_a_unit(total: float, read: Hypothesis) -> bool:
    """Whether energies so many times those of the free atoms are in some unit; else they are no totals."""
    return total > 0 and any(abs(math.log(total * unit / read.energy_factor)) < 0.03 for unit in ENERGIES.values())


def _penalty(hypothesis: Hypothesis, length: str) -> float:
    usual = "Bohr" if hypothesis.force_energy in ("Hartree", "Rydberg") else length
    return (
        _MIXED * (hypothesis.energy != hypothesis.force_energy)
        + _RARE * sum(unit not in READABLE for unit in (hypothesis.energy, hypothesis.force_energy))
        + _RARE * (hypothesis.length != usual)
        + _PER_ATOM * (hypothesis.per_atom > 1)
    )
