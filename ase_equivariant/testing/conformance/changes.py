"""Whether a calculator notices what changed: the same object asked again must answer as a new one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_equivariant.testing.conformance.subject import ConformanceError, NotOffered, Subject, differences

_SMALL_MOVE, _NUM_MOVES = 0.02, 12  # Å; together farther than any neighbour list reaches beyond the cutoff for long
_OTHER_ELEMENTS = ("H", "C", "O", "Al", "Si", "Cu", "Au", *chemical_symbols[1:84])


def check_positions_change(subject: Subject) -> None:
    """A moved atom."""
    atoms = subject.atoms()
    _compare(subject, atoms, _move_one, "positions were changed in place", "results of the old structure")


def check_cell_change(subject: Subject) -> None:
    """Another cell around the same positions."""
    atoms = _with_calculator(subject, subject.boxed())

    def change(changed: Atoms) -> None:
        changed.set_cell(changed.cell.array * 1.02, scale_atoms=False)

    _compare(subject, atoms, change, "the cell was changed", "results of the old cell")


def check_numbers_change(subject: Subject) -> None:
    """Other elements at the same positions."""
    atoms = subject.atoms()
    numbers = atoms.numbers.copy()
    if len(set(numbers)) > 1:
        other = int(np.flatnonzero(numbers != numbers[0])[0])
        numbers[[0, other]] = numbers[[other, 0]]
    else:
        numbers[0] = _another_element(subject)

    def change(changed: Atoms) -> None:
        changed.numbers[:] = numbers

    _compare(subject, atoms, change, "elements were changed", "results of the old elements")


def check_pbc_change(subject: Subject) -> None:
    """Periodic no more."""
    atoms = _with_calculator(subject, subject.boxed())

    def change(changed: Atoms) -> None:
        changed.pbc = not changed.pbc.any()

    _compare(subject, atoms, change, "pbc was changed", "results of the old periodicity")


def check_initial_magmoms_change(subject: Subject) -> None:
    """Other initial magnetic moments."""

    def change(changed: Atoms) -> None:
        changed.set_initial_magnetic_moments(np.linspace(1.0, 2.0, len(changed)))

    _compare(subject, subject.atoms(), change, "initial magnetic moments were changed", "results of the old moments")


def check_initial_charges_change(subject: Subject) -> None:
    """Other initial charges."""

    def change(changed: Atoms) -> None:
        changed.set_initial_charges(np.linspace(0.0, 0.5, len(changed)))

    _compare(subject, subject.atoms(), change, "initial charges were changed", "results of the old charges")


def check_number_of_atoms_change(subject: Subject) -> None:
    """An atom less."""
    atoms = subject.atoms()
    if len(atoms) < 2:
        raise NotOffered("the structure has one atom: give a larger one")

    def change(changed: Atoms) -> None:
        del changed[-1]

    _compare(subject, atoms, change, "an atom was removed", "results of the old number of atoms")


def check_many_small_moves(subject: Subject) -> None:
    """Many small steps: neighbour lists and thresholds must follow."""
    after(check_positions_change, subject)
    atoms, rng = subject.atoms(), np.random.default_rng(1)
    direction = rng.uniform(-1, 1, atoms.positions.shape)
    subject.values(atoms)
    for step in range(1, _NUM_MOVES + 1):
        atoms.positions += _SMALL_MOVE * direction
        found = subject.values(atoms)
        if step in (1, _NUM_MOVES // 2, _NUM_MOVES) and (wrong := list(differences(found, subject.fresh(atoms)))):
            raise ConformanceError(
                f"after {step} steps of up to {_SMALL_MOVE} Å the calculator should answer as a new one: "
                f"{'; '.join(wrong)}; a neighbour list or a threshold lags behind, MD drifts"
            )


def _compare(subject: Subject, atoms: Atoms, change: Callable[[Atoms], None], what: str, stale: str) -> None:
    """Ask, change the atoms, ask again; a new calculator must agree."""
    with subject.refusal_of(atoms):
        subject.values(atoms)
    change(atoms)
    expected = subject.fresh(atoms)
    if wrong := list(differences(subject.values(atoms), expected)):
        raise ConformanceError(
            f"after {what} the calculator should answer as a new one: {'; '.join(wrong)}; {stale} are taken for the new"
        )


def after(first: Callable[[Subject], None], subject: Subject) -> None:
    """What depends on another check says so instead of failing with it."""
    try:
        first(subject)
    except ConformanceError as error:
        raise NotOffered(f"see {first.__name__.removeprefix('check_')} first") from error


def _move_one(atoms: Atoms) -> None:
    atoms.positions[0] += (0.06, -0.05, 0.04)


def _with_calculator(subject: Subject, atoms: Atoms) -> Atoms:
    atoms.calc = subject.make()
    return atoms


def _another_element(subject: Subject) -> int:
    atoms = subject.plain()
    for symbol in _OTHER_ELEMENTS:
        if symbol == atoms.symbols[0]:
            continue
        atoms.symbols[1 if len(atoms) > 1 else 0] = symbol
        try:
            if np.isfinite(subject.ask("energy", atoms)).all():
                return chemical_symbols.index(symbol)
        except Exception:  # whatever a calculator raises for elements that it does not know
            continue
    raise NotOffered(f"no element but {atoms.symbols[0]} is known")
