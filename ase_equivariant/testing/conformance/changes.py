"""Whether a calculator notices what changed: the same object asked again must answer as a new one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_equivariant.testing.conformance.subject import ConformanceError, NotOffered, Subject, Values, differences

_SMALL_MOVE, _NUM_MOVES = 0.02, 12  # Å; together farther than any neighbour list reaches beyond the cutoff for long
_TINY_MOVE, _TINY_STRAIN = 1e-4, 1e-4  # Å; less than MD makes in a step, more than rounding of positions in float32
_ROUNDING = 1e-6  # of the largest value: what float32 may make of results for the same structure
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
    before = subject.values(atoms)
    atoms.set_cell(atoms.cell.array * (1 + _TINY_STRAIN))
    _require_another_answer(subject, atoms, before, f"the cell was made longer by {_TINY_STRAIN:.0e} of itself")


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
    """A tiny step, and many small ones: neighbour lists and thresholds must follow."""
    after(check_positions_change, subject)
    atoms, rng = subject.atoms(), np.random.default_rng(1)
    direction = rng.uniform(-1, 1, atoms.positions.shape)
    before = subject.values(atoms)
    atoms.positions += _TINY_MOVE * direction
    _require_another_answer(subject, atoms, before, f"all atoms moved by up to {_TINY_MOVE:.0e} Å")
    for step in range(1, _NUM_MOVES + 1):
        atoms.positions += _SMALL_MOVE * direction
        found = subject.values(atoms)
        if step in (1, _NUM_MOVES // 2, _NUM_MOVES) and (wrong := list(differences(found, subject.fresh(atoms)))):
            raise ConformanceError(
                f"after {step} steps of up to {_SMALL_MOVE} Å the calculator should answer as a new one: "
                f"{'; '.join(wrong)}; a neighbour list or a threshold lags behind, MD drifts"
            )


def check_order_of_questions(subject: Subject) -> None:
    """Energy, forces and stress are the same whatever was asked before."""
    atoms = subject.plain()
    names = subject.names(atoms)
    if len(names) < 2:
        raise NotOffered("neither forces nor stress")
    answers = {order: _ask_in_order(subject, atoms, order) for order in permutations(names)}
    alone = {order[0]: found[order[0]] for order, found in answers.items()}
    for order, found in answers.items():
        if wrong := list(differences(found, alone)):
            raise ConformanceError(
                f"asked for {', then '.join(order)} the calculator should answer as if asked for one only: "
                f"{'; '.join(wrong)}; a log, a filter or a file that asks for more changes a run"
            )


def _ask_in_order(subject: Subject, atoms: Atoms, names: tuple[str, ...]) -> Values:
    calculator, asked = subject.make(), atoms.copy()
    return {name: np.array(calculator.get_property(name, asked), dtype=float).squeeze() for name in names}


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


def _require_another_answer(subject: Subject, atoms: Atoms, before: Values, what: str) -> None:
    """The same to the last digit is an old answer, if a new calculator gives another one.

    So small a change may drown in rounding, or in what an SCF leaves, but these repeat no result exactly.
    """
    found = subject.values(atoms)
    if any(not np.array_equal(value, before[name]) for name, value in found.items()):
        return
    for name, wanted in subject.fresh(atoms).items():
        change = float(np.abs(wanted - before[name]).max(initial=0.0))
        if change > _ROUNDING * (1 + float(np.abs(wanted).max(initial=0.0))):
            raise ConformanceError(
                f"after {what} the calculator should answer as a new one: all results are those of before to the last "
                f"digit, a new one's {name} differ by up to {change:.2g}; a threshold (check_state with a tolerance?) "
                "takes small changes for none, so that forces do not follow slow atoms"
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
