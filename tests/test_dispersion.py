"""DFT-D3 on top of a model: consistent energy, forces and stress, equal to the library's own calculator."""

from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree

from ase_equivariant import EquivariantCalculator
from ase_equivariant.dispersion import D3, D3Settings, DispersionError, functional_of, make_d3
from ase_equivariant.testing import assert_derivatives
from ase_equivariant.testing.differences import VOIGT, difference_quotient, strained

pytest.importorskip("dftd3", reason="the package dftd3 is not installed")

PBE = {"functional": "PBE"}
# Grimme, Ehrlich, Goerigk (2011), table 2, without the three-body term.
BJ_OF_PBE = {"s6": 1.0, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407, "s9": 0.0}


def silicon():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=2)
    return atoms


@pytest.mark.parametrize("settings", [PBE, PBE | {"damping": "zero"}, PBE | {"three_body": True}])
def test_derivatives(settings, small_potential, check):
    """In a crystal D3's own coordination numbers jump a little as pairs 40 Bohr apart cross the end of their sum."""
    calculator = EquivariantCalculator(small_potential, dispersion=settings)
    violation = assert_derivatives(calculator, molecule("CH3CH2OH"), num_components=2, step=2e-3)
    check("with D3: finite differences, molecule", violation, 1e-6)
    violation = assert_derivatives(calculator, silicon(), num_components=2, step=2e-3, tolerance=1e-3)
    check("with D3: finite differences, crystal", violation, 1e-3)


def test_equal_to_the_librarys_own_calculator(small_potential, check):
    from dftd3.ase import DFTD3

    for atoms in (molecule("C6H6"), molecule("CH3CH2OH")):
        with_d3 = EquivariantCalculator(small_potential, dispersion=PBE)
        without = EquivariantCalculator(small_potential)
        reference = DFTD3(damping="d3bj", params_tweaks=BJ_OF_PBE)
        added = with_d3.get_property("energy", atoms) - without.get_property("energy", atoms)
        check("D3 energy = library's calculator (eV)", abs(added - reference.get_property("energy", atoms)), 1e-6)
        forces = with_d3.get_property("forces", atoms) - without.get_property("forces", atoms)
        check("D3 forces = library's calculator", np.abs(forces - reference.get_property("forces", atoms)).max(), 1e-6)


def test_everything_is_consistent(small_potential):
    atoms = silicon()
    atoms.calc = EquivariantCalculator(small_potential, dispersion=PBE)
    energy = atoms.get_potential_energy()
    assert atoms.calc.results["free_energy"] == energy
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, rel=1e-14)
    assert "stresses" not in atoms.calc.results
    assert atoms.calc.todict()["dispersion"] == {"functional": "PBE", "damping": "bj", "three_body": False}
    atoms.calc = EquivariantCalculator(small_potential)
    assert energy < atoms.get_potential_energy()  # dispersion attracts


def bilayer(height=3.35):
    """A rattled bilayer of graphene, 12 Å of vacuum on either side."""
    layer = graphene(size=(2, 1, 1), vacuum=12.0)
    atoms = layer + layer
    atoms.positions[len(layer) :, 2] += height
    atoms.rattle(0.1, seed=3)
    atoms.pbc = [True, True, False]
    atoms.center(vacuum=12.0, axis=2)
    return atoms


def wire():
    """A rattled chain of silicon atoms along x, 12 Å of vacuum around it."""
    atoms = Atoms("Si4", positions=[[0, 0, 0], [1.9, 1.3, 0], [3.8, 0, 0.2], [5.7, 1.3, 0.1]], cell=[7.6, 0, 0])
    atoms.rattle(0.1, seed=4)
    atoms.center(vacuum=12.0, axis=(1, 2))
    atoms.pbc = [True, False, False]
    return atoms


def turned(atoms):
    """The periodic direction last: pbc F T T, or F F T."""
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell.array[::-1], pbc=atoms.pbc[::-1])


def swapped(atoms):
    """The second and the third cell vector: pbc T F T."""
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell.array[[0, 2, 1]], pbc=atoms.pbc[[0, 2, 1]])


def with_cell(atoms, axis, vector):
    result = atoms.copy()
    result.cell[axis] = vector
    return result


def through_the_wall(atoms, axis):
    result = atoms.copy()
    result.positions[:, axis] -= 14.0
    return result


MEANINGLESS = {
    "no c": lambda: (with_cell(bilayer(), 2, [0, 0, 0]), bilayer()),
    "short c": lambda: (with_cell(bilayer(), 2, [0, 0, 3.35]), bilayer()),
    "tilted c": lambda: (with_cell(bilayer(), 2, [30.0, 0, 5.0]), bilayer()),
    "c along b": lambda: (with_cell(bilayer(), 2, bilayer().cell[1]), bilayer()),
    "left-handed": lambda: (with_cell(bilayer(), 2, [0, 0, -3.0]), bilayer()),
    "half through c": lambda: (through_the_wall(bilayer(), 2), bilayer()),
    "periodic axes last": lambda: (with_cell(turned(bilayer()), 0, [0, 0, 0]), bilayer()),
    "periodic axes first and last": lambda: (swapped(bilayer()), bilayer()),
    "wire": lambda: (with_cell(with_cell(wire(), 1, [0, 0, 0]), 2, [0, 0, 0]), wire()),
    "wire, tilted b and c": lambda: (with_cell(with_cell(wire(), 1, [9, 1, 0]), 2, [9, 1, 1]), wire()),
    "wire, half through b": lambda: (through_the_wall(wire(), 1), wire()),
    "wire along the last axis": lambda: (with_cell(turned(wire()), 0, [0, 0, 0]), wire()),
}


@pytest.mark.parametrize("case", MEANINGLESS)
def test_cell_vectors_that_are_not_periodic_mean_nothing(case, check):
    """Energy, forces and virial are those of the same structure with much vacuum, which the library treats rightly."""
    found, wanted = (D3(D3Settings(functional="PBE"))._evaluate(atoms) for atoms in MEANINGLESS[case]())
    for value, expected in zip(found, wanted, strict=True):
        check("D3 of slabs and wires (eV, Å)", np.abs(value - expected).max(), 1e-10)


@pytest.mark.parametrize("case", [bilayer, wire, silicon])
def test_vacuum_references_are_the_librarys(case, check):
    """The same as periodic everywhere with so much vacuum that images are beyond the cutoff."""
    from dftd3.interface import DispersionModel, RationalDampingParam

    atoms = case()
    (energies, _, _), far = D3(D3Settings(functional="PBE"))._evaluate(atoms), atoms.copy()
    for axis in np.flatnonzero(~atoms.pbc):
        far.cell[axis, axis] = 70.0
    model = DispersionModel(far.numbers, far.positions / Bohr, far.cell.array / Bohr, np.ones(3, dtype=bool))
    model.set_realspace_cutoff(60.0, 40.0, 40.0, width2=1.0, width3=1.0)
    found = model.get_dispersion(RationalDampingParam(method="PBE", atm=False), grad=False)["energy"] * Hartree
    check("D3 of slabs and wires = with vacuum", abs(energies.sum() - found), 1e-10)


@pytest.mark.parametrize("case", [bilayer, wire])
def test_virial_of_slabs_and_wires(case, check):
    """All six components: dE/dε of atoms and cell strained together, in the periodic plane and across it."""
    d3, atoms = D3(D3Settings(functional="PBE")), case()
    virial = full_3x3_to_voigt_6_stress(d3._evaluate(atoms)[2])
    for k, (a, b) in enumerate(VOIGT):
        slope = difference_quotient(lambda x: d3._evaluate(x)[0].sum(), partial(strained, atoms, a, b), 2e-3)
        check("D3 virial of slabs and wires", abs(slope - virial[k]) / np.abs(virial).max(), 2e-3)


def test_what_the_library_refuses_is_one_line():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0]])
    with pytest.raises(DispersionError, match=r"D3 cannot be computed for H2: .*[Tt]oo close"):
        D3(D3Settings(functional="PBE"))._evaluate(atoms)


def test_stresses_of_atoms_are_not_promised(small_potential):
    assert "stresses" in EquivariantCalculator(small_potential).implemented_properties
    calculator = EquivariantCalculator(small_potential, dispersion=PBE)
    assert "stresses" not in calculator.implemented_properties
    assert "stresses" in EquivariantCalculator.implemented_properties
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("stresses", silicon())


def test_the_functional_is_that_of_the_training_data():
    assert functional_of("PBE(+U), Materials Project settings") == "PBE"
    assert functional_of("PBE/def2-SVP") == "PBE"
    for theory in (
        "PBE-like (VASP)",
        "PBE, without dispersion corrections",
        "PBE (no dispersion)",
        "PBE+U+V",
        "PBE, compounds of Gd2O3 and CdS",
        "PBE, 2D materials",
        "PBE/6-311++G(3df,3pd)",
        "PBE/aug-cc-pVDZ",
    ):
        assert functional_of(theory) == ("PBE-like" if "like" in theory else "PBE"), theory
    assert functional_of("ωB97X/6-31G(d)") == "ωB97X"
    assert make_d3("d3", "r2SCAN, Materials Project settings").settings.functional == "r2SCAN"
    with pytest.raises(DispersionError, match="names no functional; choose with dispersion="):
        make_d3("d3", None)


@pytest.mark.parametrize(
    "theory",
    [
        *("PBE+vdW-TS", "PBE-D3", "CCSD(T)/cc-pVTZ", "PBE0+TS", "PBE-D3/def2-SVP", "ωB97X-D", "ωB97M-V", "SCAN+rVV10"),
        *("PBE+D3BJ", "PBE-D3(BJ)", "PBE_D3", "pbe-d3bj", "PBE with D3BJ dispersion", "PBE-D3zero", "ωB97M-D3BJ"),
        *("PBE-D4", "PBE-D2", "PBE+D", "B97D3", "wB97XD", "PBE GD3BJ", "DFTD3 on PBE", "PBE+XDM", "PBE-dDsC"),
        *("B97-3c", "PBEh-3c", "r2SCAN-3c/def2-mTZVPP", "optB88-vdW", "PBE0+MBD@rsSCS", "PBE0_MBD", "RI-MP2"),
        *("PBE, Tkatchenko-Scheffler", "PBE+dispersion", "PBE, Grimme's correction", "PBE, van der Waals corrected"),
    ],
)
def test_dispersion_is_not_added_twice(theory):
    with pytest.raises(DispersionError, match="accounts for dispersion already"):
        functional_of(theory)


def test_what_is_not_defined_is_refused(small_potential):
    with pytest.raises(DispersionError, match="no parameters for the functional 'nonsense'"):
        D3(D3Settings(functional="nonsense"))
    with pytest.raises(DispersionError, match="D3 is not defined for Rf"):
        D3(D3Settings(functional="PBE")).add_to({}, Atoms("Rf"))
    with pytest.raises(ValueError, match="choose 'd3' or settings"):
        EquivariantCalculator(small_potential, dispersion="d4")


def test_without_the_package_it_says_how_to_get_it(monkeypatch, small_potential):
    import sys

    monkeypatch.setitem(sys.modules, "dftd3.interface", None)
    with pytest.raises(ImportError, match=r"pip install 'ase-equivariant\[d3\]'"):
        EquivariantCalculator(small_potential, dispersion=PBE)
