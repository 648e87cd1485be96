"""DFT-D3 on top of a model: consistent energy, forces and stress, equal to the library's own calculator."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from ase_equivariant import EquivariantCalculator
from ase_equivariant.dispersion import D3, D3Settings, DispersionError, functional_of, make_d3
from ase_equivariant.testing import assert_derivatives

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
