"""Relaxation with any optimizer."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read

from ase_equivariant.recipes.relax import OPTIMIZERS, free_strains, relax


def rattled(calculator=True):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    if calculator:
        atoms.calc = EMT()
    return atoms


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_finds_the_minimum(optimizer):
    result = relax(rattled(), optimizer=optimizer, fmax=0.02, steps=300)
    assert result.converged
    assert result.max_force <= 0.02
    assert result.energy_after_eV < result.energy_before_eV
    perfect = bulk("Cu", cubic=True)
    perfect.calc = EMT()
    assert result.energy_after_eV == pytest.approx(perfect.get_potential_energy(), abs=1e-2)


def test_the_cell_relaxes_to_emt_s_lattice_constant():
    atoms = bulk("Cu", a=3.4, cubic=True)
    atoms.calc = EMT()
    result = relax(atoms, cell=True, fmax=1e-4)
    assert result.converged
    assert atoms.cell.lengths() == pytest.approx([3.59] * 3, abs=0.01)
    assert abs(atoms.get_stress()).max() < 1e-3
    squeezed = bulk("Cu", a=3.6, cubic=True)
    squeezed.calc = EMT()
    assert relax(squeezed, cell=True, pressure_GPa=20, fmax=1e-3).volume_after_A3 < 0.95 * atoms.get_volume()


def test_a_mask_holds_parts_of_the_cell():
    atoms = bulk("Cu", a=3.4, cubic=True)
    atoms.calc = EMT()
    relax(atoms, cell=True, cell_mask=(True, False, False, False, False, False), fmax=1e-3)
    assert atoms.cell.lengths()[0] > 3.5
    assert atoms.cell.lengths()[1:] == pytest.approx([3.4, 3.4], abs=1e-6)


def slab(vacuum):
    atoms = fcc111("Cu", (1, 1, 3), a=3.5, vacuum=vacuum)
    atoms.calc = EMT()
    return atoms


def test_the_cell_of_a_slab_relaxes_in_its_plane():
    """Its energy does not depend on the vacuum, which stays as it is, and so does nothing else."""
    thin, thick = slab(6.0), slab(12.0)
    for atoms in (thin, thick):
        before = atoms.cell.array.copy()
        assert relax(atoms, cell=True, fmax=1e-3).converged
        np.testing.assert_array_equal(atoms.cell[2], before[2])
        assert atoms.cell.lengths()[0] > np.linalg.norm(before[0]) + 0.01
    np.testing.assert_allclose(thin.cell[:2], thick.cell[:2], atol=1e-6)


def test_what_a_cell_that_is_partly_periodic_cannot_do():
    with pytest.raises(ValueError, match="pressure of 2 GPa on a structure that is not periodic in all directions"):
        relax(slab(6.0), cell=True, pressure_GPa=2.0)
    turned = slab(6.0)
    turned.rotate(30, "x", rotate_cell=True)
    with pytest.raises(ValueError, match="along Cartesian axes: rotate it"):
        relax(turned, cell=True)
    with pytest.raises(ValueError, match="pressure_GPa = nan"):
        relax(rattled(), cell=True, pressure_GPa=float("nan"))
    wire = bulk("Cu", cubic=True)
    wire.pbc = (False, True, False)
    assert free_strains(wire).tolist() == [False, True, False, False, False, False]
    assert free_strains(bulk("Cu"), [True] * 5 + [False]).tolist() == [True] * 5 + [False]


def test_labels_from_elsewhere_are_not_in_the_way(tmp_path):
    """ASE writes no structure that has an energy of its own beside the calculator's."""
    atoms = rattled()
    atoms.info.update(energy=-1.0, note="kept")
    atoms.arrays["forces"] = np.ones((4, 3))
    result = relax(atoms, fmax=0.1, trajectory=tmp_path / "all.xyz", output=tmp_path / "last.xyz")
    for file in ("all.xyz", "last.xyz"):
        last = read(tmp_path / file)
        assert last.get_potential_energy() == pytest.approx(result.energy_after_eV)
        assert last.info["note"] == "kept"
    assert atoms.info["energy"] == -1.0  # the user's own stays as it is


def test_constraints_hold():
    atoms = rattled()
    atoms.set_constraint(FixAtoms([0]))
    fixed = atoms.positions[0].copy()
    assert relax(atoms, fmax=0.02).converged
    np.testing.assert_array_equal(atoms.positions[0], fixed)


def test_files(tmp_path):
    atoms = rattled()
    result = relax(atoms, trajectory=tmp_path / "steps.extxyz", output=tmp_path / "final.cif", fmax=0.02)
    frames = read(tmp_path / "steps.extxyz", ":")
    assert len(frames) == result.steps + 1
    assert frames[-1].get_potential_energy() == pytest.approx(result.energy_after_eV, abs=1e-6)
    assert len(read(tmp_path / "final.cif")) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final.cif", "steps.extxyz"]


@pytest.mark.parametrize("name", ["final.foo", "final", "final.abc.abinit-gsr"])
def test_what_cannot_be_written_is_said_before_anything_moves(tmp_path, name):
    atoms = rattled()
    before = atoms.positions.copy()
    with pytest.raises(ValueError, match=f"{name}: ASE cannot write it"):
        relax(atoms, output=tmp_path / name, trajectory=tmp_path / "steps.extxyz")
    np.testing.assert_array_equal(atoms.positions, before)
    assert not list(tmp_path.iterdir())


def test_output_is_in_the_format_of_its_name(tmp_path):
    """A temporary file has another name; the format is that of the one asked for."""
    relax(rattled(), output=tmp_path / "POSCAR", fmax=0.1)
    assert len(read(tmp_path / "POSCAR", format="vasp")) == 4
    relax(rattled(), output=tmp_path / "final.xyz.gz", fmax=0.1)
    assert len(read(tmp_path / "final.xyz.gz")) == 4


def test_not_converged_is_said():
    result = relax(rattled(), steps=1, fmax=1e-6)
    assert not result.converged
    assert result.steps == 1


def test_no_atoms_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="the structure has no atoms"):
        relax(Atoms(calculator=EMT()), trajectory=tmp_path / "a.extxyz")
    assert not any(tmp_path.iterdir())


def test_bad_input_is_one_clear_line():
    with pytest.raises(ValueError, match=r"no optimizer 'bfgs': choose one of BFGS"):
        relax(rattled(), optimizer="bfgs")
    with pytest.raises(ValueError, match="no calculator"):
        relax(rattled(calculator=False))
    with pytest.raises(ValueError, match="fmax"):
        relax(rattled(), fmax=0)
    with pytest.raises(ValueError, match=r"a pressure of 5 GPa does nothing to a fixed cell: .*--cell"):
        relax(rattled(), pressure_GPa=5)
    water = molecule("H2O")
    water.calc = EMT()
    with pytest.raises(ValueError, match="no periodic cell"):
        relax(water, cell=True)
