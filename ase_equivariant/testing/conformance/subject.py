"""The calculator under test, and how the checks ask it. Needs ASE and numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculatorSetupError, compare_atoms
from numpy.typing import NDArray

from ase_equivariant.testing.differences import Expected, require_atoms

# All six components of the strain differ, so that those of the stress do.
_STRAIN = ((0.020, 0.012, -0.030), (0.012, -0.045, 0.048), (-0.030, 0.048, 0.060))
_RATTLE = 0.05  # Å

Values = dict[str, NDArray[np.float64]]


class NotOffered(Exception):
    """The calculator lacks what the check is about, or another check has to pass first: told, not failed."""


class ConformanceError(AssertionError):
    """A check's finding, as opposed to an assertion of the calculator's own."""


class Subject:
    """A calculator and a structure to check it on.

    Parameters
    ----------
    calculator : calculator or callable
        An ASE calculator, which is copied, or a function without arguments that makes new ones. (If it gives one and
        the same, that is copied.)
    structure : Atoms, optional
        Something that it can compute; strained and rattled here, so that nothing vanishes by symmetry. Default the
        first of Cu3Al, silicon, ethanol and water that it computes.

    Raises
    ------
    ValueError
        If this is no calculator, what should make one needs arguments, the structure is none or has no atoms, or it
        cannot be computed.
    """

    def __init__(self, calculator: Any, structure: Atoms | None = None):
        if structure is not None:
            require_atoms(structure)
        self.make = _maker(calculator)
        self._reusable = self.make()
        self.name = type(self._reusable).__name__
        if not hasattr(self._reusable, "get_property"):
            raise ValueError(f"{self.name} is no ASE calculator, it has no get_property: give one or what makes one")
        self._structure = self._first_that_works(_candidates() if structure is None else [structure])
        self.expected_stress: Expected | None = None  # by energy differences, once they are known

    @property
    def offered(self) -> tuple[str, ...]:
        """``implemented_properties``."""
        return tuple(getattr(self._reusable, "implemented_properties", ()))

    @property
    def consistent_energy(self) -> str:
        """The energy whose derivatives are the forces."""
        return "free_energy" if "free_energy" in self.offered else "energy"

    def plain(self) -> Atoms:
        """A new copy of the structure, without a calculator."""
        return self._structure.copy()

    def atoms(self) -> Atoms:
        """A new copy of the structure with a new calculator."""
        atoms = self.plain()
        atoms.calc = self.make()
        return atoms

    def boxed(self) -> Atoms:
        """As :meth:`plain`, in a box and periodic if it has no cell."""
        atoms = self.plain()
        if has_volume(atoms):
            return atoms
        atoms.center(vacuum=4.0)
        atoms.pbc = True
        return atoms

    def ask(self, name: str, atoms: Atoms) -> NDArray[np.float64]:
        """A property of ``atoms`` that no cached result decides.

        Raises
        ------
        NotOffered
            If the calculator refuses what the atoms are changed to, even a new one.
        """
        try:
            return self._ask(name, atoms)
        except CalculatorSetupError:
            self._reusable = self.make()
        with self.refusal_of(atoms):
            return self._ask(name, atoms)

    def _ask(self, name: str, atoms: Atoms) -> NDArray[np.float64]:
        if hasattr(self._reusable, "reset"):
            self._reusable.reset()
        else:
            self._reusable = self.make()
        return np.asarray(self._reusable.get_property(name, atoms.copy()), dtype=float)

    def names(self, atoms: Atoms) -> list[str]:
        """Energy, forces and stress: what is offered of them and, the stress, has a volume."""
        names = ["energy", *(["forces"] if "forces" in self.offered else [])]
        return [*names, "stress"] if "stress" in self.offered and has_volume(atoms) and atoms.pbc.all() else names

    def values(self, atoms: Atoms) -> Values:
        """All of :meth:`names`, of the calculator that the atoms have."""
        names = self.names(atoms)
        return {name: np.asarray(atoms.calc.get_property(name, atoms), dtype=float).squeeze() for name in names}

    def fresh(self, atoms: Atoms) -> Values:
        """As :meth:`values`, of a new calculator for a copy of the atoms."""
        copy = atoms.copy()
        copy.calc = self.make()
        with self.refusal_of(copy):
            return self.values(copy)

    @contextmanager
    def refusal_of(self, atoms: Atoms) -> Iterator[None]:
        """For new calculators: what ASE has for inputs that make no sense is no failure if more than positions changed.

        Codes that take crystals only raise it, for one.
        """
        try:
            yield
        except CalculatorSetupError as error:
            changed = [name for name in compare_atoms(self._structure, atoms) if name != "positions"]
            if not changed:
                raise
            first = (str(error).splitlines() or [""])[0]
            raise NotOffered(f"refused with changed {', '.join(changed)}: {first:.200}") from error

    def _first_that_works(self, candidates: list[Atoms]) -> Atoms:
        problems = []
        for candidate in candidates:
            atoms = _distorted(candidate)
            try:
                energy = float(np.asarray(self._ask("energy", atoms)).item())
            except Exception as error:  # whatever a calculator raises for what it does not know
                problems.append(f"{atoms.symbols}: {type(error).__name__}: {str(error).splitlines()[:1]}")
                continue
            if np.isfinite(energy):
                return atoms
            problems.append(f"{atoms.symbols}: the energy is {energy}")
        raise ValueError(f"give a structure that {self.name} can compute; tried {'; '.join(problems)}")


def has_volume(atoms: Atoms) -> bool:
    """Whether the cell is three-dimensional, so that there may be a stress."""
    return bool(atoms.cell.volume > 1e-8 * atoms.cell.lengths().prod())


def differences(found: Values, expected: Values) -> Iterator[str]:
    """What differs by more than rounding in float32, in words."""
    for name, wanted in expected.items():
        value = found[name]
        if value.shape != wanted.shape:
            yield f"{name} has the shape {value.shape}, expected {wanted.shape}"
            continue
        if name == "energy":
            allowed = 1e-5 * max(1, len(expected.get("forces", ()))) + 1e-6 * abs(float(wanted))
        else:
            allowed = 1e-4 + 1e-3 * float(np.abs(wanted).max(initial=0.0))
        if not (difference := np.abs(value - wanted)).max(initial=0.0) <= allowed:
            worst = np.unravel_index(int(difference.argmax()), difference.shape)
            yield f"{name} {value[worst]:.8g}, expected {wanted[worst]:.8g}"


def _maker(calculator: Any) -> Callable[[], Any]:
    if isinstance(calculator, type) or (callable(calculator) and not hasattr(calculator, "get_property")):
        _refuse_arguments(calculator)
        if (made := calculator()) is not calculator():
            return calculator
        calculator = made  # to compare it with itself would show nothing
    try:
        untouched = deepcopy(calculator)
    except Exception as error:
        raise ValueError(
            f"{type(calculator).__name__} cannot be copied ({error}): give a function that makes one"
        ) from error
    if hasattr(untouched, "reset"):
        untouched.reset()  # one that holds results is not new: what copies of it miss, each of them would
    return lambda: deepcopy(untouched)


def _refuse_arguments(make: Callable[..., Any]) -> None:
    try:
        found = signature(make)
    except ValueError:  # of compiled code, it may not be known
        return
    try:
        found.bind()
    except TypeError as error:
        name = getattr(make, "__name__", type(make).__name__)
        raise ValueError(
            f"{name} cannot be called without arguments ({error}): give a calculator, or lambda: {name}(…)"
        ) from error


def _candidates() -> list[Atoms]:
    """Almost every calculator knows one of them. Elements are not in any order, so that a calculator's own shows."""
    copper = bulk("Cu", cubic=True, a=3.65)
    copper.symbols[1] = "Al"
    ethanol, water = molecule("CH3CH2OH")[[3, 0, 4, 2, 5, 1, 6, 7, 8]], molecule("H2O")[[1, 0, 2]]
    return [copper, bulk("Si", cubic=True), ethanol, water, molecule("H2O")]  # water models count on OHH


def _distorted(atoms: Atoms) -> Atoms:
    """Free of constraints, off every symmetry; strained by six different components if there is a volume."""
    result = atoms.copy()
    result.calc = None
    result.set_constraint()
    if has_volume(result):
        result.set_cell(result.cell.array @ (np.eye(3) + np.array(_STRAIN)), scale_atoms=True)
    result.positions += _RATTLE * np.random.default_rng(0).uniform(-1, 1, (len(result), 3))
    return result
