"""Forces and stress against differences of energies: sign, unit, order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import NamedTuple

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ase_equivariant.testing.conformance.subject import ConformanceError, NotOffered, Subject, has_volume
from ase_equivariant.testing.differences import VOIGT, VOIGT_NAMES, difference_quotient, moved, moved_along, strained

_STEP = 0.01  # Å
_STRAIN_STEP = 0.004
_DIRECTION_STEP = 0.005  # Å, as neighbours move against each other
_NUM_DIRECTIONS = 2
_SMALL = 0.1  # of the largest force: atoms with less move farthest
_TOLERANCE = 0.02  # of the largest component: for float32 and plain cutoffs, still far below any wrong unit
_FORCE_UNITS = {
    "kcal/mol/Å": units.mol / units.kcal,
    "kJ/mol/Å": units.mol / units.kJ,
    "eV/Bohr": units.Bohr,
    "Hartree/Bohr": units.Bohr / units.Hartree,
    "meV/Å": 1000.0,
    "eV/nm": 10.0,
}

Fits = Callable[[NDArray[np.float64], NDArray[np.float64]], bool]


class Relation(NamedTuple):
    """``found = factor · expected[order]``."""

    factor: float
    order: tuple[int, ...]


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
    energy = partial(_energy, subject)
    expected = -np.array(
        [difference_quotient(energy, partial(moved, atoms, i, k), _STEP, 2) for i in chosen for k in range(3)]
    )
    if _fits(found, expected):
        _compare_along_directions(subject, atoms, forces, chosen)
        return
    relation = _explain(found, expected, [tuple(range(len(found)))], _fits)
    hint = "" if relation is None else _name_factor(relation.factor, _FORCE_UNITS)
    k = int(np.abs(found - expected).argmax())
    raise ConformanceError(
        f"forces should be −d({subject.consistent_energy})/dr in eV/Å: on atom {chosen[k // 3]} along {'xyz'[k % 3]} "
        f"expected {expected[k]:.6g}, found {found[k]:.6g}{hint}; MD would not conserve energy, relaxation not converge"
    )


def _compare_along_directions(subject: Subject, atoms: Atoms, forces: NDArray[np.float64], known: list[int]) -> None:
    """Σ F·d should be −dE along displacements d of all atoms.

    The smaller the force that is told, the farther an atom moves (the largest a tenth), so that all do about the same
    work and a small force that is wrong is not lost among large ones. Allowed is as much as for single atoms, of the
    root of the sum of squares, and what an energy in float32 leaves open.
    """
    sizes, rng = np.linalg.norm(forces, axis=1), np.random.default_rng(4)
    reach = 1.0 / np.maximum(sizes / max(float(sizes.max()), 1e-300), _SMALL)
    reach /= reach.max()
    rounding = float(np.spacing(np.float32(abs(_energy(subject, atoms))))) / _DIRECTION_STEP
    allowed = _TOLERANCE * float(np.linalg.norm(sizes * reach)) + rounding + 1e-6
    for _ in range(_NUM_DIRECTIONS):
        random = rng.normal(size=forces.shape)
        direction = random * (reach / np.linalg.norm(random, axis=1))[:, None]
        along = partial(moved_along, atoms, direction)
        expected = -difference_quotient(partial(_energy, subject), along, _DIRECTION_STEP, 2)
        found = float((forces * direction).sum())
        if not abs(found - expected) <= allowed:
            raise ConformanceError(
                f"forces should be −d({subject.consistent_energy})/dr in eV/Å on every atom: on atoms "
                f"{' and '.join(str(i) for i in known)} they are, yet as all atoms move along a random direction their "
                f"work is {found:.6g}, expected {expected:.6g}; others are wrong, MD would not conserve energy"
            )


def check_stress_is_derivative(subject: Subject) -> None:
    """The stress is a derivative of the energy, up to sign, order and unit."""
    found, expected = _stresses(subject)
    if _relation(found, expected) is None:
        table = ", ".join(f"{n} {e:.4g} / {f:.4g}" for n, e, f in zip(VOIGT_NAMES, expected, found, strict=True))
        raise ConformanceError(
            f"stress should be dE/dε/V (eV/Å³), expected / found: {table}; not even sign, order or unit explain it "
            "(are shears doubled?), so that cells relax to a wrong shape"
        )


def check_stress_sign(subject: Subject) -> None:
    """Tensile stress is positive."""
    found, expected = _stresses(subject)
    if _known(found, expected).factor < 0:
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
    found, expected = _stresses(subject)
    factor = abs(_known(found, expected).factor)
    if abs(factor - 1) > 2 * _TOLERANCE:
        k, known = (
            int(np.abs(expected).argmax()),
            {
                "GPa": 1 / units.GPa,
                "kbar": 10 / units.GPa,
                "bar": 1 / units.bar,
                "eV of a virial, not divided by the volume": subject.plain().get_volume(),
                "eV/Bohr³": units.Bohr**3,
                "Hartree/Bohr³": units.Bohr**3 / units.Hartree,
            },
        )
        raise ConformanceError(
            f"stress should be in eV/Å³: of {VOIGT_NAMES[k]} expected the size {abs(expected[k]):.4g}, found "
            f"{factor * abs(expected[k]):.4g}{_name_factor(factor, known)}; pressures and cells come out wrong"
        )


def _energy(subject: Subject, atoms: Atoms) -> float:
    return float(subject.ask(subject.consistent_energy, atoms).item())


def _stresses(subject: Subject) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Found, and expected by differences."""
    atoms = subject.plain()
    if "stress" not in subject.offered:
        raise NotOffered("no stress")
    if not (has_volume(atoms) and atoms.pbc.all()):
        raise NotOffered(f"{atoms.symbols} has no periodic cell: give a crystal to check the stress")
    if subject.expected_stress is None:
        energy = partial(_energy, subject)
        slopes = [difference_quotient(energy, partial(strained, atoms, *ab), _STRAIN_STEP, 2) for ab in VOIGT]
        subject.expected_stress = np.array(slopes) / atoms.get_volume()
    found = subject.ask("stress", atoms)
    if found.shape != (6,):
        raise NotOffered(f"stress has the shape {found.shape}, see the check of arrays")
    return found, subject.expected_stress


def _relation(found: NDArray[np.float64], expected: NDArray[np.float64]) -> Relation | None:
    return _explain(found, expected, list(permutations(range(6))), _stress_fits)


def _known(found: NDArray[np.float64], expected: NDArray[np.float64]) -> Relation:
    relation = _relation(found, expected)
    if relation is None:
        raise NotOffered("stress is no derivative of the energy, see that check")
    return relation


def _explain(
    found: NDArray[np.float64], expected: NDArray[np.float64], orders: list[tuple[int, ...]], fits: Fits
) -> Relation | None:
    """The factor and, the first one if it does, else the best, order by which ``found`` follows from ``expected``."""
    candidates = []
    for order in orders:
        reordered = expected[list(order)]
        factor = float(found @ reordered / max(float(expected @ expected), 1e-300))
        if factor != 0 and fits(found / factor, reordered):
            candidates.append((float(np.abs(found / factor - reordered).max()), Relation(factor, order)))
            if order == orders[0]:
                break
    return min(candidates)[1] if candidates else None


def _fits(found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    return bool(np.abs(found - expected).max() <= _TOLERANCE * np.abs(expected).max() + 1e-6)


def _stress_fits(found: NDArray[np.float64], expected: NDArray[np.float64]) -> bool:
    """The rest besides the pressure on its own scale: under pressure, shears in a wrong order would not be seen."""
    mean = np.array([1.0, 1, 1, 0, 0, 0]) / 3
    rest, wanted = (s - mean * s[:3].sum() for s in (found, expected))
    return _fits(found, expected) and bool(np.abs(rest - wanted).max() <= 0.1 * np.abs(wanted).max() + 1e-5)


def _name_factor(factor: float, known: dict[str, float]) -> str:
    """What a wrong factor looks like, as the end of a sentence."""
    hints = ["the wrong sign"] if factor < 0 else []
    if abs(abs(factor) - 1) > 2 * _TOLERANCE:
        units = (name for name, size in known.items() if abs(abs(factor) / size - 1) < 2 * _TOLERANCE)
        hints.append(next((f"the unit {name}" for name in units), f"a factor of {abs(factor):.4g}"))
    return f" (it looks like {' and '.join(hints)})"
