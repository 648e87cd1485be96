"""Phonons against a chain solved by hand, ASE's own phonons, and the classical limit."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.phonons import Phonons

from ase_equivariant.recipes import phonons as module
from ase_equivariant.recipes.phonons import check_phonons, default_supercell, phonons
from ase_equivariant.recipes.relax import relax

pytest.importorskip("phonopy")
SPRING, LENGTH, SIDE = 5.0, 2.0, 9.0


class Chain(Calculator):
    """Springs along x between neighbours of a periodic chain; each atom tied softly in y and z."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012
    tie = 0.7

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, length = self.atoms.positions, self.atoms.cell[0, 0]
        order = np.argsort(x[:, 0] % length)
        gaps = (np.roll(x[order, 0], -1) - x[order, 0]) % length - LENGTH
        forces = np.zeros_like(x)
        forces[order, 0] = SPRING * (gaps - np.roll(gaps, 1))
        sideways = (x[:, 1:] + SIDE / 2) % SIDE - SIDE / 2
        forces[:, 1:] = -self.tie * sideways
        self.results = {"energy": 0.5 * SPRING * (gaps**2).sum(), "forces": forces - forces.mean(axis=0)}


def test_diatomic_chain():
    """Along the chain ω² = k (1/m + 1/M) ± k √((1/m + 1/M)² − 4 sin²(q a / 2) / (m M))."""
    atoms = Atoms("NaCl", positions=[[0, 0, 0], [LENGTH, 0, 0]], cell=[2 * LENGTH, SIDE, SIDE], pbc=True)
    atoms.calc = Chain()
    m, M = atoms.get_masses()
    # Z is along the axis that differs
    found = phonons(atoms, (8, 1, 1), path="GZ", points=9)
    to_THz = 1000 * units.fs / (2 * np.pi)
    for k in (0, 2, 4, 6, 8):  # those that the supercell of 8 knows exactly
        sine = np.sin(np.pi * 0.5 * k / 8)
        root = np.sqrt((1 / m + 1 / M) ** 2 - 4 * sine**2 / (m * M))
        for squared in (1 / m + 1 / M - root, 1 / m + 1 / M + root):
            expected = to_THz * np.sqrt(max(SPRING * squared, 0.0))
            assert np.abs(found.bands_THz[k] - expected).min() < 2e-3, (k, expected)


@pytest.fixture(scope="module")
def copper():
    atoms = bulk("Cu", a=3.6)
    atoms.calc = EMT()
    relax(atoms, cell=True, fmax=1e-6)
    return atoms, phonons(atoms, (4, 4, 4))


def test_copper_as_with_ase(copper, tmp_path):
    atoms, found = copper
    own = Phonons(atoms, EMT(), supercell=(4, 4, 4), delta=0.01, name=str(tmp_path / "phonon"))
    own.run()
    own.read(acoustic=True)
    points = atoms.cell.bandpath("GXL", npoints=3).special_points
    energies = own.band_structure([points["X"], points["L"]], verbose=False)
    planck = units._hplanck / units._e * 1e12  # eV per THz
    for name, expected in zip("XL", energies / planck, strict=True):
        np.testing.assert_allclose(found.special_THz[name], np.sort(expected), rtol=3e-3)


def test_sums_and_limits(copper):
    _, found = copper
    np.testing.assert_allclose(found.gamma_THz, 0.0, atol=1e-5)
    assert found.lowest_THz > -1e-3
    assert np.trapezoid(found.dos_per_THz, found.dos_THz) == pytest.approx(3.0, rel=0.01)
    assert found.heat_capacity_eV_per_K[-1] == pytest.approx(3 * units.kB, rel=0.01)  # Dulong and Petit
    assert found.heat_capacity_eV_per_K[0] == pytest.approx(0.0, abs=1e-12)
    # S = −dF/dT
    slope = -np.gradient(found.free_energy_eV, found.temperature_K)
    np.testing.assert_allclose(slope[5:-1], found.entropy_eV_per_K[5:-1], rtol=0.02)
    assert found.tick_labels[0] == "G"
    assert len(found.path) == len(found.bands_THz)


def test_what_has_none_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="need a crystal"):
        phonons(molecule("H2O"), (1, 1, 1))
    atoms = Atoms("NaCl", positions=[[0, 0, 0], [LENGTH + 0.1, 0, 0]], cell=[2 * LENGTH, SIDE, SIDE], pbc=True)
    atoms.calc = Chain()
    with pytest.raises(ValueError, match="relax the crystal first"):
        phonons(atoms, (1, 1, 1))
    with pytest.raises(ValueError, match="three numbers"):
        phonons(atoms, (0, 1, 1))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"ase-equivariant\[phonons\]"):
        phonons(atoms, (1, 1, 1))


def test_a_path_that_is_none_is_refused_before_atoms_are_displaced():
    atoms = bulk("Cu", a=3.6)
    atoms.calc = EMT()
    atoms.get_forces()
    asked = []
    atoms.calc.calculate = lambda *arguments: asked.append(arguments)
    with pytest.raises(ValueError, match="path 'GQ': no special point 'Q': choose of G, K, L, U, W, X"):
        phonons(atoms, (2, 2, 2), path="GQ")
    for path in ("", "GX,"):
        with pytest.raises(ValueError, match=f"path '{path}' is none: write special points"):
            phonons(atoms, (2, 2, 2), path=path)
    assert not asked


def test_what_is_wrong_already_before_the_crystal_is_relaxed():
    """A path of the lattice that a crystal may yet relax to is not."""
    ideal = bulk("Si", cubic=True)  # no calculator
    for arguments, words in (
        (((0, 2, 2),), "use three numbers > 0"),
        (((2, 2),), "use three numbers > 0"),
        ((None, 0.0), "displacement_A = 0.0"),
        ((None, 0.01, "GM"), "path 'GM': no special point 'M': choose of G, K, L, U, W, X"),
    ):
        with pytest.raises(ValueError, match=words):
            check_phonons(ideal, *arguments)
    for deviation in (0.0, 0.002, 0.03):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(deviation, seed=1)
        atoms.set_cell(atoms.cell.array * [1, 1 + deviation, 1], scale_atoms=True)
        check_phonons(atoms, (2, 2, 2), path="GXWKGL")


def test_constraints_do_not_hide_forces():
    atoms = Atoms("NaCl", positions=[[0, 0, 0], [LENGTH + 0.1, 0, 0]], cell=[2 * LENGTH, SIDE, SIDE], pbc=True)
    atoms.calc = Chain()
    atoms.set_constraint(FixAtoms([0, 1]))
    with pytest.raises(ValueError, match=r"relax the crystal first.*all atoms free"):
        phonons(atoms, (1, 1, 1))


def test_default_supercell_has_faces_10_A_apart():
    assert default_supercell(bulk("Cu", a=3.6, cubic=True)) == (3, 3, 3)
    assert default_supercell(Atoms("H", cell=[12, 10, 4.9], pbc=True)) == (1, 1, 3)
    flat = Atoms("H", cell=[10.473] * 3 + [24.16] * 3, pbc=True)  # as Bi2Te3: long edges, images 3.77 Å away
    assert default_supercell(flat) == (3, 3, 3)
    assert default_supercell(bulk("Cu", a=3.6)) == (5, 5, 5)


def test_isotopes_have_their_own_masses():
    """Atoms of one element, light and heavy in turns: the diatomic chain, of which masses make the cell."""
    atoms = Atoms("Na2", positions=[[0, 0, 0], [LENGTH, 0, 0]], cell=[2 * LENGTH, SIDE, SIDE], pbc=True)
    masses = np.array([23.0, 46.0])
    atoms.set_masses(masses)
    atoms.calc = Chain()
    found = phonons(atoms, (4, 1, 1), path="GZ", points=3, mesh=20)
    to_THz = 1000 * units.fs / (2 * np.pi)
    for expected in to_THz * np.sqrt(2 * SPRING / masses):  # at the zone's border one of them rests
        assert np.abs(found.special_THz["Z"] - expected).min() < 2e-3
    assert len(found.gamma_THz) == 6


def test_left_handed_cells_are_those_of_the_right_hand():
    """Hexagonal, two atoms off the origin: every band point and the free energy."""
    right = bulk("Cu", "hcp", a=2.55, c=4.16)
    right.calc = EMT()
    relax(right, cell=True, fmax=1e-5)
    left = right.copy()
    left.calc = EMT()
    left.set_cell(right.cell.array * [[1], [1], [-1]])
    assert left.cell.handedness == -1
    a, b = (phonons(atoms, (3, 3, 2), points=30, mesh=20) for atoms in (right, left))
    for name, expected in a.special_THz.items():
        np.testing.assert_allclose(b.special_THz[name], expected, atol=1e-4)
    np.testing.assert_allclose(b.free_energy_eV, a.free_energy_eV, atol=1e-6)
