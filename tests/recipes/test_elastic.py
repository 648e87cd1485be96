"""Elastic constants against finite differences of the energy, which know nothing of stress."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from ase_equivariant import EquivariantCalculator
from ase_equivariant.recipes.elastic import averages_of, elastic_constants
from ase_equivariant.recipes.eos import equation_of_state
from ase_equivariant.recipes.relax import relax


@pytest.fixture(scope="module")
def copper():
    atoms = bulk("Cu", a=3.6)
    atoms.calc = EMT()
    relax(atoms, cell=True, fmax=1e-5)
    return atoms


def curvature_GPa(atoms, strain_of, size=2e-3):
    """Second derivative of the energy density along a family of strains."""
    energies = []
    for x in (-size, 0.0, size):
        trial = atoms.copy()
        trial.calc = atoms.calc
        trial.set_cell(atoms.cell.array @ (np.eye(3) + strain_of(x)), scale_atoms=True)
        energies.append(trial.get_potential_energy())
    return (energies[0] - 2 * energies[1] + energies[2]) / size**2 / atoms.get_volume() / units.GPa


def test_copper_against_energies(copper):
    before = copper.cell.array.copy()
    found = elastic_constants(copper)
    c11 = curvature_GPa(copper, lambda x: np.diag([x, 0, 0]))
    both = curvature_GPa(copper, lambda x: np.diag([x, x, 0]))  # 2 C11 + 2 C12
    shear = curvature_GPa(copper, lambda x: np.array([[0, x / 2, 0], [x / 2, 0, 0], [0, 0, 0]]))
    expected = {"11": c11, "12": both / 2 - c11, "44": shear}
    C = found.C_GPa
    for name, value in expected.items():
        i, j = (int(k) - 1 for k in name)
        assert C[i, j] == pytest.approx(value, rel=2e-3), name
    # cubic: three numbers
    pattern = np.zeros((6, 6))
    pattern[:3, :3] = C[0, 1]
    pattern[range(6), range(6)] = [C[0, 0]] * 3 + [C[3, 3]] * 3
    np.testing.assert_allclose(C, pattern, atol=1e-3)
    assert found.asymmetry_GPa < 1e-3
    assert found.stable
    np.testing.assert_array_equal(copper.cell.array, before)
    assert found.bulk_hill_GPa == pytest.approx(equation_of_state(copper, strain=0.01).bulk_modulus_GPa, rel=0.01)


def test_ions_relax(copper):
    """Two copper atoms, one displaced along the cell by a shear, slide back where they may."""
    atoms = bulk("Cu", "hcp", a=2.55, c=4.16)
    atoms.calc = EMT()
    relax(atoms, cell=True, fmax=1e-5)
    clamped, free = (elastic_constants(atoms, relax_ions=r, fmax=1e-5).C_GPa for r in (False, True))
    assert free[0, 0] < clamped[0, 0] - 1  # internal strain softens the basal plane
    assert free[2, 2] == pytest.approx(clamped[2, 2], abs=0.01)  # and does nothing along the axis
    assert (free[0, 0] - free[0, 1]) / 2 == pytest.approx(free[5, 5], rel=1e-2)  # transverse isotropy


def test_a_small_strain_is_relaxed_as_well():
    """Silicon's ions soften its shear by a quarter however small the strain, whose forces are below any fixed limit."""
    atoms = bulk("Si")
    atoms.calc = EquivariantCalculator("si")
    relax(atoms, cell=True, fmax=1e-4)
    small, usual = (elastic_constants(atoms, strain).C_GPa[3, 3] for strain in (1e-4, 5e-3))
    clamped = elastic_constants(atoms, relax_ions=False).C_GPa[3, 3]
    assert usual < 0.8 * clamped
    assert small == pytest.approx(usual, rel=0.01)


def test_averages():
    """An isotropic solid has one bulk and one shear modulus; for cubic copper Voigt and Reuss are known formulas."""
    lame, shear = 50.0, 30.0
    C = np.zeros((6, 6))
    C[:3, :3] = lame
    C[range(6), range(6)] += [2 * shear] * 3 + [shear] * 3
    found = averages_of(C)
    for name in ("voigt", "reuss", "hill"):
        assert getattr(found, f"bulk_{name}_GPa") == pytest.approx(lame + 2 * shear / 3)
        assert getattr(found, f"shear_{name}_GPa") == pytest.approx(shear)
    assert found.poisson == pytest.approx(lame / (2 * (lame + shear)))
    assert found.young_GPa == pytest.approx(shear * (3 * lame + 2 * shear) / (lame + shear))
    c11, c12, c44 = 168.4, 121.4, 75.4  # copper, measured
    C[:3, :3] = c12
    C[range(6), range(6)] = [c11] * 3 + [c44] * 3
    cubic = averages_of(C)
    assert cubic.shear_voigt_GPa == pytest.approx((c11 - c12 + 3 * c44) / 5)
    assert cubic.shear_reuss_GPa == pytest.approx(5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12)))
    C[3, 3] = -1.0
    assert not averages_of(C).stable


def test_what_has_none_is_refused(copper):
    with pytest.raises(ValueError, match="need a crystal"):
        elastic_constants(molecule("H2O"))
    stretched = bulk("Cu", a=3.7)
    stretched.calc = EMT()
    with pytest.raises(ValueError, match="relax it first"):
        elastic_constants(stretched)
    apart = molecule("H2O", vacuum=6.0)
    apart.pbc = True
    apart.calc = EMT()
    relax(apart, fmax=1e-3)
    with pytest.raises(ValueError, match=r"H2O does not resist strain \(largest constant .* GPa\): molecules in a box"):
        elastic_constants(apart)
    held = copper.copy()
    held.calc = copper.calc
    held.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="need free atoms: remove the constraints"):
        elastic_constants(held)
    with pytest.raises(ValueError, match="use 0 < strain"):
        elastic_constants(copper, strain=0.2)
