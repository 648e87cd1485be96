"""Torsion scans of a molecule whose torsional energy is given."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.geometry import get_dihedrals, get_dihedrals_derivatives

from ase_equivariant.recipes.bonds import beyond_bond, bonds_of
from ase_equivariant.recipes.torsion import torsion_scan, turning_atoms

BARRIER = 0.2


class Twisted(Calculator):
    """H–O–O–H: stiff springs between atoms up to two bonds apart, and BARRIER (1 + cos 2φ) / 2."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, reference):
        super().__init__()
        self.pairs = np.array([(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)])
        self.lengths = np.linalg.norm(
            reference.positions[self.pairs[:, 0]] - reference.positions[self.pairs[:, 1]], axis=1
        )

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        r = self.atoms.positions
        vectors = r[self.pairs[:, 0]] - r[self.pairs[:, 1]]
        now = np.linalg.norm(vectors, axis=1)
        forces = np.zeros_like(r)
        pull = 20.0 * (now - self.lengths)[:, None] * vectors / now[:, None]
        np.add.at(forces, self.pairs[:, 0], -pull)
        np.add.at(forces, self.pairs[:, 1], pull)
        bonds = [r[1:2] - r[0:1], r[2:3] - r[1:2], r[3:4] - r[2:3]]
        angle = np.radians(get_dihedrals(*bonds)[0])
        slope = get_dihedrals_derivatives(*bonds)[0]  # degrees per Å
        forces += BARRIER * np.sin(2 * angle) * np.radians(slope)
        energy = 10.0 * np.square(now - self.lengths).sum() + BARRIER * (1 + np.cos(2 * angle)) / 2
        self.results = {"energy": float(energy), "forces": forces}


def peroxide():
    atoms = molecule("H2O2")[[2, 0, 1, 3]]
    atoms.set_dihedral(0, 1, 2, 3, 90.0, indices=[3])
    atoms.calc = Twisted(atoms)
    return atoms


def test_atoms_that_are_held_are_not_moved():
    atoms = molecule("CH3CH2OH")  # C C O and its H, two hydrogens of the CH2, three of the CH3
    atoms.set_constraint(FixAtoms([4]))
    with pytest.raises(
        ValueError, match=r"atom 4 is held .*: remove the constraint, or turn the other end, \(0, 1, 2, 3\)"
    ):
        turning_atoms(atoms, (3, 2, 1, 0))
    assert turning_atoms(atoms, (0, 1, 2, 3))[1] == [2, 3]
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match=r"atom 0 is held by a constraint and would be moved: remove the constraint$"):
        turning_atoms(atoms, (0, 1, 2, 3))


def test_forces_of_the_test_s_calculator():
    atoms = peroxide()
    atoms.rattle(0.05, seed=3)
    forces = atoms.get_forces()
    moved = atoms.copy()
    moved.calc = atoms.calc
    for k, axis in ((0, 1), (3, 2)):
        energies = []
        for sign in (1, -1):
            moved.positions[:] = atoms.positions
            moved.positions[k, axis] += sign * 1e-5
            energies.append(moved.get_potential_energy())
        assert forces[k, axis] == pytest.approx(-(energies[0] - energies[1]) / 2e-5, abs=1e-5)


def test_scan_is_the_torsional_energy():
    """Springs do not know φ, so that relaxed energies are the given function of it."""
    atoms = peroxide()
    before = atoms.positions.copy()
    found = torsion_scan(atoms, (0, 1, 2, 3), np.arange(20.0, 341.0, 20.0), fmax=1e-4)
    assert found.converged.all()
    shape = BARRIER * (1 + np.cos(2 * np.radians(found.angles_deg))) / 2
    np.testing.assert_allclose(found.energies_eV, shape - shape.min(), atol=1e-5)
    assert found.barrier_eV == pytest.approx(shape.max() - shape.min(), abs=1e-5)
    for angle, frame in zip(found.angles_deg, found.frames, strict=True):
        assert frame.get_dihedral(0, 1, 2, 3) == pytest.approx(angle, abs=1e-3)
    np.testing.assert_array_equal(atoms.positions, before)
    assert not atoms.constraints


def test_bonds_and_their_sides():
    ethanol = molecule("CH3CH2OH")
    assert len(bonds_of(ethanol)) == 8
    assert beyond_bond(ethanol, 1, 2) == [2, 3]
    assert beyond_bond(ethanol, 2, 1) == [0, 1, 4, 5, 6, 7, 8]
    assert len(bonds_of(Atoms("Ar2", [[0, 0, 0], [0, 0, 4]]))) == 0
    with pytest.raises(ValueError, match="in a ring"):
        beyond_bond(molecule("C6H6"), 0, 1)


def test_what_is_no_dihedral_is_refused():
    atoms = molecule("CH3CH2OH")
    with pytest.raises(ValueError, match="no calculator"):
        torsion_scan(atoms, (0, 1, 2, 3))
    atoms.calc = peroxide().calc
    with pytest.raises(ValueError, match="four different atoms of 0 to 8"):
        torsion_scan(atoms, (0, 1, 2, 9))
    with pytest.raises(ValueError, match="along the chain"):
        torsion_scan(atoms, (3, 1, 2, 0))


def test_atoms_in_line_have_no_dihedral():
    """Of propyne, H-C-C≡C; one that comes to lie in line during the scan is no traceback either."""
    atoms = molecule("C3H4_C3v")
    atoms.calc = peroxide().calc
    with pytest.raises(ValueError, match=r"atoms \(2, 0, 1\) are in line, where there is no dihedral"):
        torsion_scan(atoms, (4, 2, 0, 1))


def test_a_chain_that_straightens_during_the_scan(monkeypatch):
    def relax(*_, **__):
        raise ZeroDivisionError("Undefined derivative for undefined dihedral with planar inner angle")

    monkeypatch.setattr("ase_equivariant.recipes.torsion.relax", relax)
    with pytest.raises(ValueError, match=r"at 20° three of .* come to lie in line: scan another"):
        torsion_scan(peroxide(), (0, 1, 2, 3), [20.0])
