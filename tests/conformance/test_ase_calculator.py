"""The checks of calculators find what they are there to find, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculatorSetupError, InputError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.tip3p import TIP3P
from faulty import FAULTS

from ase_equivariant import EquivariantCalculator
from ase_equivariant.testing import TEST_SYSTEMS, assert_ase_calculator
from ase_equivariant.testing.conformance import CHECKS, Subject, run_check
from ase_equivariant.testing.conformance import subject as subject_module


def states(calculator, structure=None):
    subject = Subject(calculator, structure)
    return {name: run_check(name, subject) for name in CHECKS}


def failed(outcomes):
    return {name: outcome.message for name, outcome in outcomes.items() if outcome.state == "failed"}


def test_ours_passes_every_check(small_potential):
    outcomes = assert_ase_calculator(EquivariantCalculator(small_potential), TEST_SYSTEMS["mixed"]())
    assert {outcome.state for outcome in outcomes} == {"passed"}
    assert [outcome.name for outcome in outcomes] == list(CHECKS)


@pytest.mark.parametrize(("name", "dtype"), [("si", "float32"), ("ethanol", "float64")])
def test_shipped_models_pass(name, dtype):
    """Of structures that the checks find themselves; a molecule has no stress."""
    outcomes = assert_ase_calculator(lambda: EquivariantCalculator(name, dtype=dtype))
    missing = {outcome.name for outcome in outcomes if outcome.state == "not offered"}
    stress = {name for name in CHECKS if "stress" in name}
    assert missing == (stress if name == "ethanol" else {"numbers_change"})  # silicon has one element


def test_lennard_jones_passes():
    assert {outcome.state for outcome in assert_ase_calculator(LennardJones())} == {"passed"}


def test_emt_passes_but_for_pickle():
    """ASE's EMT keeps a lambda once it has been used."""
    messages = failed(states(EMT))
    assert set(messages) <= {"pickle"}
    assert "a used calculator should be pickled" in messages.get("pickle", "a used calculator should be pickled")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_check_only(fault):
    calculator, check = FAULTS[fault]
    messages = failed(states(calculator))
    if issubclass(calculator, EMT):
        messages.pop("pickle")  # a class of a function, and EMT's own
    elif calculator.__module__ != "faulty" or "<locals>" in calculator.__qualname__ or calculator.__name__ == "Spoilt":
        messages.pop("pickle")  # a class of a function
    assert list(messages) == [check], messages
    assert "should" in messages[check]
    assert len(messages[check].splitlines()) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("stress in GPa", "the unit GPa"),
        ("forces in kcal/mol/Å", "the unit kcal/mol/Å"),
        ("forces are gradients", "the wrong sign"),
        ("stress in the wrong order", "found xx yy zz xy xz yz"),
        ("stress of the wrong sign", "positive under tension"),
        ("atoms labelled", "changed: info"),
        ("atoms wrapped", "changed: positions"),
        ("atoms stopped", "changed: momenta"),
        ("atoms made periodic", "changed: pbc (with pbc T T F), pbc (with no cell)"),
        ("molecules boxed", "changed: positions (with no cell), cell (with no cell)"),
        ("a cell added", "changed: cell (with no cell)"),
        ("one moment for each atom", "magmom should be a float, it is numpy.ndarray of shape (4,)"),
        ("forces with forces only", "asked for energy, then forces, then stress"),
        ("no forces with stress", "asked for stress, then energy, then forces"),
        ("wrong before the cell", "moves by -1 times cell vector"),
        ("the cell displaced", "changed: celldisp"),
        ("energies lent", "energies changed by their user"),
        ("copies that are none", "it is the calculator itself"),
        ("tiny moves unnoticed", "all atoms moved by up to 1e-04 Å"),
    ],
)
def test_messages_name_the_fault(fault, words):
    calculator, check = FAULTS[fault]
    assert words in run_check(check, Subject(calculator)).message


@pytest.mark.parametrize("name", ["forces", "stress"])
@pytest.mark.parametrize("factor", [0.995, 1.01])
def test_a_factor_near_one(name, factor):
    class Scaled(LennardJones):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results[name] *= factor

    crystal = bulk("Cu", "fcc", a=1.7).repeat(2)
    crystal.rattle(0.05, seed=1)
    subject = Subject(lambda: Scaled(rc=4.0, smooth=True), crystal)
    outcome = run_check("forces" if name == "forces" else "stress_unit", subject)
    assert outcome.state == "failed"
    assert f"a factor of {factor}" in outcome.message


def test_a_small_force_among_large_ones():
    """It is said to be zero: less than what single components are compared to, which the others' size decides."""
    spoil = False

    class Forgets(LennardJones):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            forces = self.results["forces"]
            self.ratio = np.abs(forces[2]).max() / np.abs(forces).max()
            if spoil:
                forces[2] = 0.0

    subject = Subject(lambda: Forgets(rc=8.0), Atoms("Cu3", positions=[[0, 0, 0], [0.95, 0.2, 0], [0.3, 2.6, 0.3]]))
    used = subject.atoms()
    used.get_forces()
    assert 0.0005 < used.calc.ratio < 0.002
    assert run_check("forces", subject).state == "passed"
    spoil = True
    outcome = run_check("forces", subject)
    assert outcome.state == "failed"
    assert "as all atoms move along a random direction their work is" in outcome.message


def test_several_faults_are_listed():
    class Wrong(FAULTS["stress of the wrong sign"][0]):
        def todict(self, skip_default=True):
            return []

    with pytest.raises(AssertionError, match=r"(?s)Wrong fails \d of \d+ checks\n.*stress_sign: .*\n.*todict: "):
        assert_ase_calculator(Wrong)


def test_what_is_not_offered_is_told():
    class EnergyOnly(LennardJones):
        implemented_properties = ["energy", "free_energy"]  # noqa: RUF012

    outcomes = states(EnergyOnly)
    told = {name: outcome.message for name, outcome in outcomes.items() if outcome.state == "not offered"}
    assert told["forces"] == "no forces"
    assert told["stress_sign"] == "no stress"
    assert told["atomic_energies"] == "no atomic energies ('energies')"
    assert set(failed(outcomes)) <= {"pickle"}  # a class of a function


def test_refusal_is_no_failure():
    class Crystals(EMT):
        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            if not atoms.pbc.all():
                raise NotImplementedError("crystals only")
            super().calculate(atoms, properties, system_changes)

    outcome = run_check("mixed_pbc", Subject(Crystals))
    assert (outcome.state, outcome.message) == ("not offered", "crystals only")


def test_asserts_of_the_calculator_are_no_findings():
    class Asserts(LennardJones):
        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            assert len(atoms) != 3, "three atoms"
            super().calculate(atoms, properties, system_changes)

    outcome = run_check("number_of_atoms_change", Subject(Asserts))  # of the four atoms of Cu3Al
    assert (outcome.state, outcome.message) == ("failed", "the calculator raised AssertionError: three atoms")


def refusing(error, refuses):
    class Refuses(LennardJones):
        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            if refuses(atoms):
                raise error("needs a crystal")
            super().calculate(atoms, properties, system_changes)

    return Refuses


def test_a_new_calculator_has_the_last_word():
    """One that was reset only may hold on to what it was first asked."""

    class Fixed(LennardJones):
        first = None

        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            self.first = len(atoms) if self.first is None else self.first
            if len(atoms) != self.first:
                raise CalculatorSetupError("the number of atoms cannot change")
            super().calculate(atoms, properties, system_changes)

    assert run_check("isolated_atom", Subject(Fixed)).state == "passed"


@pytest.mark.parametrize("error", [CalculatorSetupError, InputError])
def test_a_structure_refused_from_the_start_is_not_offered(error):
    """As plane-wave codes do."""
    outcomes = states(refusing(error, lambda atoms: not atoms.pbc.all()))
    told = {name: outcome.message for name, outcome in outcomes.items() if outcome.state == "not offered"}
    assert told.pop("isolated_atom").endswith("needs a crystal")
    assert told == dict.fromkeys(("pbc_change", "mixed_pbc"), "refused with changed pbc: needs a crystal")
    assert set(failed(outcomes)) == {"pickle"}  # a class of a function


def test_one_calculator_for_all_checks_is_copied():
    """It would be compared with itself; results that it holds already would be every copy's."""

    class Stale(LennardJones):
        def check_state(self, atoms, tol=1e-15):
            return [] if self.results else super().check_state(atoms, tol)

    stale, expected = Stale(), run_check("positions_change", Subject(Stale))
    assert "after positions were changed in place" in expected.message
    for _ in range(2):
        assert run_check("positions_change", Subject(lambda: stale)) == expected
        assert run_check("positions_change", Subject(stale)) == expected
        stale.get_property("energy", Subject(LennardJones).plain())


def test_atoms_of_an_element_are_apart_in_what_is_tried():
    *candidates, water = subject_module._candidates()
    for candidate in candidates:
        numbers = candidate.numbers
        if len(set(numbers)) > 1:
            assert (np.diff(numbers) != 0).sum() >= len(set(numbers)), candidate.symbols
    assert str(water.symbols) == str(Subject(TIP3P).plain().symbols) == "OH2"  # which takes no other order


@pytest.mark.parametrize("refuses", [lambda atoms: not atoms.pbc.all(), lambda atoms: not atoms.cell.rank])
def test_atoms_that_a_calculator_refuses_are_not_asked_for(refuses):
    """atoms_untouched goes on without them; other checks speak of it."""
    for error in (CalculatorSetupError, ValueError):
        assert run_check("atoms_untouched", Subject(refusing(error, refuses))).state == "passed"


def test_other_refusals_are_failures():
    """Of the structure itself with its atoms moved, and by a used calculator only."""
    reference = Subject(LennardJones).plain()
    moved = refusing(CalculatorSetupError, lambda atoms: not np.array_equal(atoms.positions, reference.positions))
    outcome = run_check("forces", Subject(moved))
    assert outcome.message == "the calculator raised CalculatorSetupError: needs a crystal"

    class OnePbc(LennardJones):
        first = None

        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            self.first = atoms.pbc.tolist() if self.first is None else self.first
            if atoms.pbc.tolist() != self.first:
                raise CalculatorSetupError("pbc cannot change")
            super().calculate(atoms, properties, system_changes)

    outcome = run_check("pbc_change", Subject(OnePbc))
    assert outcome.message == "the calculator raised CalculatorSetupError: pbc cannot change"


def test_structures():
    subject = Subject(EMT, bulk("Cu", cubic=True))
    assert set(subject.plain().symbols) == {"Cu"}
    assert run_check("numbers_change", subject).state == "passed"  # by another element that it finds
    with pytest.raises(ValueError, match=r"give a structure that EMT can compute; tried U: \w+"):
        Subject(EMT, molecule("H2O")[:0] + bulk("U", "bcc", a=3.5))
    with pytest.raises(ValueError, match="dict is no ASE calculator"):
        Subject(dict)


def test_arguments_that_are_wrong_are_one_line():
    class OfFile(LennardJones):
        def __init__(self, path):
            super().__init__()

    with pytest.raises(
        ValueError, match=r"OfFile cannot .* \(missing a required argument: 'path'\): .* lambda: OfFile\("
    ):
        assert_ase_calculator(OfFile)
    with pytest.raises(ValueError, match=r"should be ase.Atoms, it is 'Cu.xyz' \(str\)"):
        assert_ase_calculator(EMT, "Cu.xyz")
    with pytest.raises(ValueError, match="the structure has no atoms"):
        assert_ase_calculator(EMT(), Atoms())
