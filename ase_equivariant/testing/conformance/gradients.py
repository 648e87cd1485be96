"""Forces and stress against differences of energies: sign, unit, order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_equivariant.testing.conformance.subject import ConformanceError, NotOffered, Subject, has_volume
from ase_equivariant.testing.differences import (
    VOIGT,
    VOIGT_NAMES,
    Expected,
    moved,
    moved_along,
    quotient_and_doubt,
    strained,
)

_STEP = 0.005  # Å
_STRAIN_STEP = 0.002
_DIRECTION_STEP = 0.005  # Å, as neighbours move against each other
_NUM_DIRECTIONS = 2
_SMALL = 0.1  # of the largest force: atoms with less move farthest
# Of the largest component: the first for calculators whose energies tell their derivatives well; for others, in float32
# or with a plain cutoff, more by what their differences leave in doubt, up to the second.
_TIGHT, _LOOSE = 0.002, 0.02
# Rounding is 7 times as large in a difference of order 6 as between those of 6 and 4, which chance may make small.
_DOUBT = 20
_FORCE_UNITS = {
    "kcal/mol/Å": units.mol / units.kcal,
    "kJ/mol/Å": units.mol / units.kJ,
    "eV/Bohr": units.Bohr,
    "Hartree/Bohr": units.Bohr / units.Hartree,
    "meV/Å": 1000.0,
    "eV/nm": 10.0,
}


class Relation(NamedTuple):
    """``found = factor · expected[order]``."""

    factor: float
    order: tuple[int, ...]


Fits = Callable[[NDArray[np.float64], Expected], bool]


def check_forces(subject: Subject) -> None:
    """Forces are −dE/dr, in eV/Å: on two atoms by component, on all together along random directions."""
    if "forces" not in subject.offered:
        raise NotOffered("no forces")
    atoms = subject.plain()
    forces = subject.ask("forces", atoms)
    largest = int(np.abs(forces).max(axis=1).argmax())
    others = np.delete(np.arange(len(atoms)), largest)
    chosen = [largest, *np.random.default_rng(3).permutation(others)[:1]]
    found = forces[chosen].ravel()
    derivatives = _derivatives(subject, [partial(moved, atoms, i, k) for i in chosen for k in range(3)], _STEP, -1.0)
    if _fits(found, derivatives):
        _compare_along_directions(subject, atoms, forces, chosen, derivatives.relative)
        return
    relation = _explain(found, derivatives, [tuple(range(len(found)))], _fits)
    hint = "" if relation is None else _name_factor(relation.factor, _FORCE_UNITS, derivatives)
    expected = derivatives.values
    k = int(np.abs(found - expected).argmax())
    raise ConformanceError(
        f"forces should be −d({subject.consistent_energy})/dr in eV/Å: on atom {chosen[k // 3]} along {'xyz'[k % 3]} "
        f"expected {expected[k]:.6g}, found {found[k]:.6g}{hint}; MD would not conserve energy, relaxation not converge"
    )


def _compare_along_directions(
    subject: Subject, atoms: Atoms, forces: NDArray[np.float64], known: list[int], tolerance: float
) -> None:
    """Σ F·d should be −dE along displacements d of all atoms.

    The smaller the force that is told, the farther an atom moves (the largest a tenth), so that all do about the same
    work and a small force that is wrong is not lost among large ones. Allowed is as much as for single atoms, of the
    root of the sum of squares, and what an energy in float32 leaves open.
    """
    sizes, rng = np.linalg.norm(forces, axis=1), np.random.default_rng(4)
    reach = 1.0 / np.maximum(sizes / max(float(sizes.max()), 1e-300), _SMALL)
    reach /= reach.max()
    rounding = float(np.spacing(np.float32(abs(_energy(subject, atoms))))) / _DIRECTION_STEP
    allowed = tolerance * float(np.linalg.norm(sizes * reach)) + rounding + 1e-6
    for _ in range(_NUM_DIRECTIONS):
        random = rng.normal(size=forces.shape)
        direction = random * (reach / np.linalg.norm(random, axis=1))[:, None]
        along = partial(moved_along, atoms, direction)
        slope, doubt = quotient_and_doubt(partial(_energy, subject), along, _DIRECTION_STEP)
        found, expected = float((forces * direction).sum()), -slope
        if not abs(found - expected) <= allowed + _DOUBT * doubt:
            raise ConformanceError(
                f"forces should be −d({subject.consistent_energy})/dr in eV/Å on every atom: on atoms "
                f"{' and '.join(str(i) for i in known)} they are, yet as all atoms move along a random direction their "
                f"work is {found:.6g}, expected {expected:.6g}; others are wrong, MD would not conserve energy"
            )


def check_stress_is_derivative(subject: Subject) -> None:
    """The stress is a derivative of the energy, up to sign, order and unit."""
    found, derivatives = _stresses(subject)
    if _relation(found, derivatives) is None:
        pairs = zip(VOIGT_NAMES, derivatives.values, found, strict=True)
        table = ", ".join(f"{name} {e:.4g} / {f:.4g}" for name, e, f in pairs)
        raise ConformanceError(
            f"stress should be dE/dε/V (eV/Å³), expected / found: {table}; not even sign, order or unit explain it "
            "(are shears doubled?), so that cells relax to a wrong shape"
        )


def check_stress_sign(subject: Subject) -> None:
    """Tensile stress is positive."""
    found, derivatives = _stresses(subject)
    if _known(found, derivatives).factor < 0:
        expected = derivatives.values
        k = int(np.abs(expected).argmax())
        raise ConformanceError(
            f"stress should be positive under tension, +dE/dε/V: {VOIGT_NAMES[k]} expected {expected[k]:.4g} eV/Å³, "
            f"found {found[k]:.4g}; with the other sign cells grow when they should shrink"
        )


def check_stress_order(subject: Subject) -> None:
    """Voigt's order is xx yy zz yz xz xy."""
    found, expected = _stresses(subject)
    order = _known(found, expected).order
    if order != tuple(range(6)):
        names = " ".join(VOIGT_NAMES[k] for k in order)
        raise ConformanceError(
            f"stress should be in the order {' '.join(VOIGT_NAMES)}, found {names}: cells are sheared along wrong axes"
        )


def check_stress_unit(subject: Subject) -> None:
    """The unit is eV/Å³."""
    found, derivatives = _stresses(subject)
    factor, expected = abs(_known(found, derivatives).factor), np.abs(derivatives.values)
    if abs(factor - 1) <= 2 * derivatives.relative:
        return
    known = {
        "GPa": 1 / units.GPa,
        "kbar": 10 / units.GPa,
        "bar": 1 / units.bar,
        "eV of a virial, not divided by the volume": subject.plain().get_volume(),
        "eV/Bohr³": units.Bohr**3,
        "Hartree/Bohr³": units.Bohr**3 / units.Hartree,
    }
    k = int(expected.argmax())
    raise ConformanceError(
        f"stress should be in eV/Å³: of {VOIGT_NAMES[k]} expected the size {expected[k]:.4g}, found "
        f"{factor * expected[k]:.4g}{_name_factor(factor, known, derivatives)}; pressures and cells come out wrong"
    )


def _energy(subject: Subject, atoms: Atoms) -> float:
    return float(subject.ask(subject.consistent_energy, atoms).item())


def _derivatives(
    subject: Subject, displacements: Sequence[Callable[[float], Atoms]], step: float, size: float
) -> Expected:
    """Derivatives of the energy along displacements, over ``size``."""
    energy = partial(_energy, subject)
    found = np.array([quotient_and_doubt(energy, along, step) for along in displacements]) / size
    values, doubt = found[:, 0], float(np.abs(found[:, 1]).max())
    largest = float(np.abs(values).max())
    return Expected(values, min(_TIGHT * largest + _DOUBT * doubt, _LOOSE * largest) + 1e-6)


def _stresses(subject: Subject) -> tuple[NDArray[np.float64], Expected]:
    """Found, and expected by differences."""
    atoms = subject.plain()
    if "stress" not in subject.offered:
        raise NotOffered("no stress")
    if not (has_volume(atoms) and atoms.pbc.all()):
        raise NotOffered(f"{atoms.symbols} has no periodic cell: give a crystal to check the stress")
    if subject.expected_stress is None:
        strains = [partial(strained, atoms, *ab) for ab in VOIGT]
        subject.expected_stress = _derivatives(subject, strains, _STRAIN_STEP, atoms.get_volume())
    found = subject.ask("stress", atoms)
    if found.shape != (6,):
        raise NotOffered(f"stress has the shape {found.shape}, see the check of arrays")
    return found, subject.expected_stress


def _relation(found: NDArray[np.float64], expected: Expected) -> Relation | None:
    return _explain(found, expected, list(permutations(range(6))), _stress_fits)


def _known(found: NDArray[np.float64], expected: Expected) -> Relation:
    relation = _relation(found, expected)
    if relation is None:
        raise NotOffered("stress is no derivative of the energy, see that check")
    return relation


def _explain(
    found: NDArray[np.float64], derivatives: Expected, orders: list[tuple[int, ...]], fits: Fits
) -> Relation | None:
    """The factor and, the first one if it does, else the best, order by which ``found`` follows from ``expected``."""
    candidates, expected = [], derivatives.values
    for order in orders:
        reordered = expected[list(order)]
        factor = float(found @ reordered / max(float(expected @ expected), 1e-300))
        if factor != 0 and fits(found / factor, derivatives._replace(values=reordered)):
            candidates.append((float(np.abs(found / factor - reordered).max()), Relation(factor, order)))
            if order == orders[0]:
                break
    return min(candidates)[1] if candidates else None


def _fits(found: NDArray[np.float64], expected: Expected) -> bool:
    return bool(np.abs(found - expected.values).max() <= expected.allowed)


def _stress_fits(found: NDArray[np.float64], expected: Expected) -> bool:
    """The rest besides the pressure on its own scale: under pressure, shears in a wrong order would not be seen."""
    mean = np.array([1.0, 1, 1, 0, 0, 0]) / 3
    rest, wanted = (s - mean * s[:3].sum() for s in (found, expected.values))
    return _fits(found, expected) and bool(np.abs(rest - wanted).max() <= 0.1 * np.abs(wanted).max() + 1e-5)


def _name_factor(factor: float, known: dict[str, float], derivatives: Expected) -> str:
    """What a wrong factor looks like, as the end of a sentence."""
    hints = ["the wrong sign"] if factor < 0 else []
    if abs(abs(factor) - 1) > derivatives.relative:
        units = (name for name, size in known.items() if abs(abs(factor) / size - 1) < 2 * derivatives.relative)
        hints.append(next((f"the unit {name}" for name in units), f"a factor of {abs(factor):.4g}"))
    return f" (it looks like {' and '.join(hints)})" if hints else ""
