"""The ASE calculator: everything ASE and its users may ask of it."""

from __future__ import annotations

import json
import pickle
from copy import deepcopy

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress
from ase.io import Trajectory, read, write
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.stress import voigt_6_to_full_3x3_stress

from ase_equivariant import EquivariantCalculator, __version__
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.model_file import read_header
from ase_equivariant.io.registry import ModelNotFoundError
from ase_equivariant.potential.content_hash import content_hash
from ase_equivariant.potential.potential import UnknownElementError
from ase_equivariant.testing import TEST_SYSTEMS, assert_derivatives


@pytest.fixture
def calculator(small_potential):
    return EquivariantCalculator(small_potential)


@pytest.fixture
def crystal(calculator):
    """A strained, rattled crystal with a calculator."""
    atoms = TEST_SYSTEMS["mixed"]()
    atoms.calc = calculator
    return atoms


class Evaluations:
    """``len``: how often the calculator has looked for neighbours, as it does in every evaluation."""

    def __init__(self, calculator):
        self.statistics = calculator.neighbors.statistics
        self.before = self.count()

    def count(self):
        return self.statistics.builds + self.statistics.reuses

    def __len__(self):
        return self.count() - self.before


# What it gives


@pytest.mark.parametrize("name", TEST_SYSTEMS)
def test_values_are_those_of_the_potential(name, calculator, small_potential, check):
    atoms = TEST_SYSTEMS[name]()
    atoms.calc = calculator
    expected = small_potential(atoms_to_graph(atoms, small_potential.cutoff), stress=atoms.cell.rank == 3)
    assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"][0]), rel=1e-15)
    check("calculator = potential: forces", np.abs(atoms.get_forces() - expected["forces"].numpy()).max(), 1e-9)
    energies = atoms.get_potential_energies() - expected["node_energies"].numpy()
    check("calculator = potential: energies", np.abs(energies).max(), 1e-10)
    if "stress" in expected:
        difference = np.abs(atoms.get_stress(voigt=False) - expected["stress"][0].numpy()).max()
        check("calculator's stress = potential's", difference / np.abs(atoms.get_stress()).max(), 1e-8)


def test_types_shapes_and_sums(crystal):
    n, calculator = len(crystal), crystal.calc
    energy = crystal.get_potential_energy()
    assert set(calculator.results) == set(calculator.implemented_properties)
    assert type(energy) is float
    assert type(calculator.results["free_energy"]) is float
    assert crystal.get_potential_energy(force_consistent=True) == energy
    shapes = {"energies": (n,), "forces": (n, 3), "stress": (6,), "stresses": (n, 6)}
    for name, shape in shapes.items():
        value = calculator.results[name]
        assert (type(value), value.dtype, value.shape) == (np.ndarray, np.float64, shape)
        assert value.flags.writeable
    assert crystal.get_potential_energies().sum() == energy
    np.testing.assert_array_equal(crystal.get_stresses().sum(axis=0), crystal.get_stress())


@pytest.mark.parametrize("name", ["molecule", "mixed", "skewed", "tiny", "slab"])
def test_forces_and_stress_are_derivatives(name, calculator, check):
    """With ASE's sign (tensile positive), order (xx yy zz yz xz xy) and units."""
    violation = assert_derivatives(calculator, TEST_SYSTEMS[name](), num_components=None if name == "mixed" else 5)
    check("calculator: finite differences", violation, 1e-6)


def test_stress_agrees_with_ase_numerical_stress(crystal):
    numerical = calculate_numerical_stress(crystal, eps=1e-5, voigt=True)
    np.testing.assert_allclose(crystal.get_stress(), numerical, rtol=0, atol=1e-7 * np.abs(numerical).max() + 1e-9)
    assert np.abs(np.diff(np.sort(np.abs(numerical)))).min() > 1e-5  # no two could be exchanged unseen


def test_it_says_what_it_is():
    shown = repr(EquivariantCalculator("si", preset="md"))
    assert shown == "EquivariantCalculator('si', device='cpu', dtype='float32')"


def test_results_are_copies(crystal):
    forces = crystal.get_forces()
    forces += 1.0
    assert not np.array_equal(forces, crystal.get_forces())


def test_prediction_keeps_the_tensors(crystal):
    crystal.get_forces()
    assert set(crystal.calc.prediction) == {"energy", "node_energies", "forces", "virial", "node_virials", "stress"}


# Cells


@pytest.mark.parametrize("name", ["molecule", "wire", "atom"])
def test_without_a_volume_there_is_no_stress(name, calculator):
    atoms = TEST_SYSTEMS[name]()
    atoms.calc = calculator
    atoms.get_forces()
    for ask in (atoms.get_stress, atoms.get_stresses):
        with pytest.raises(PropertyNotImplementedError):
            ask()
    assert "stress" not in calculator.results


def test_parallel_cell_vectors_have_no_volume(calculator):
    """Not periodic, so that they do no harm; ASE calls the rank of this cell 3."""
    atoms = Atoms(
        "CO", positions=[[0, 0, 0], [0, 0, 1.2]], cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], calculator=calculator
    )
    assert np.isfinite(atoms.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_molecule_in_a_box_is_the_molecule(calculator, check):
    """Not periodic with a cell: the box changes nothing, and stress is the virial over its volume."""
    free, boxed = TEST_SYSTEMS["molecule"](), TEST_SYSTEMS["molecule"]()
    boxed.set_cell([5.0, 6.0, 7.0])  # smaller than molecule and cutoff together
    free.calc, boxed.calc = calculator, deepcopy(calculator)
    assert boxed.get_potential_energy() == free.get_potential_energy()
    np.testing.assert_array_equal(boxed.get_forces(), free.get_forces())
    virial = np.einsum("ia,ib->ab", boxed.positions, boxed.get_forces())
    check("stress of a molecule in a box", np.abs(boxed.get_stress(voigt=False) + virial / 210.0).max(), 1e-14)


def test_slab_knows_its_periodic_directions(calculator):
    """A slab equals its supercell along them, and an atom moved by a lattice vector along the other is far away."""
    slab = TEST_SYSTEMS["slab"]()
    slab.calc = calculator
    energy = slab.get_potential_energy()
    double = slab.repeat((2, 1, 1))
    double.calc = calculator
    assert double.get_potential_energy() == pytest.approx(2 * energy, rel=1e-13)
    slab.positions[0] += slab.cell[0]
    assert slab.get_potential_energy() == pytest.approx(energy, rel=1e-13)
    slab.positions[0] += slab.cell[2]
    assert abs(slab.get_potential_energy() - energy) > 1e-3


# Structures that are hard or wrong


def test_isolated_atom_and_edgeless_molecule(calculator, small_potential):
    alone = [Atoms(symbol, calculator=calculator).get_potential_energy() for symbol in "CO"]
    atoms = TEST_SYSTEMS["edgeless"]()
    atoms.calc = calculator
    assert atoms.get_potential_energy() == pytest.approx(sum(alone), rel=1e-15)
    assert (atoms.get_forces() == 0).all()


def test_empty_structure_has_no_energy(calculator):
    for atoms in (Atoms(), Atoms(cell=[3, 3, 3], pbc=True)):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == 0.0
        assert atoms.get_forces().shape == (0, 3)
    assert (atoms.get_stress() == 0).all()


def test_unknown_elements(calculator):
    atoms = Atoms("HFHe", positions=[[0, 0, 0], [1, 0, 0], [2, 0, 0]], calculator=calculator)
    with pytest.raises(UnknownElementError, match=r"^this model does not know F, He: it was made for H, C, O, Si$"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_positions_that_are_no_numbers(value, calculator):
    atoms = TEST_SYSTEMS["molecule"]()
    atoms.calc = calculator
    atoms.get_potential_energy()
    atoms.positions[4, 1] = value
    for _ in range(2):  # the second time must not find the results of the first structure
        with pytest.raises(ValueError, match=r"atom 4 is at .*coordinates must be finite"):
            atoms.get_potential_energy()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_cells_that_are_no_numbers(value, calculator):
    atoms = TEST_SYSTEMS["mixed"]()
    atoms.calc = calculator
    atoms.cell[0, 0] = value
    with pytest.raises(ValueError, match="cell is"):
        atoms.get_potential_energy()


def test_coinciding_atoms(calculator):
    atoms = Atoms("CHO", positions=[[0, 0, 0], [1, 0, 0], [1, 0, 0]], calculator=calculator)
    with pytest.raises(ValueError, match="atoms 1 and 2 are at the same position: move or remove one of them"):
        atoms.get_forces()
    images = Atoms("CO", positions=[[0, 0, 0], [0, 0, 4.0]], cell=[4, 4, 4], pbc=True, calculator=calculator)
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same position"):
        images.get_forces()


def test_nearly_coinciding_atoms_give_finite_forces_or_an_error(calculator):
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1e-3]], calculator=calculator)
    assert atoms.get_forces()[1, 2] > 1e6  # ZBL
    atoms.positions[1, 2] = 1e-200
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same position"):
        atoms.get_forces()


def test_an_atom_and_its_copy_across_the_boundary_coincide_but_for_rounding(calculator):
    atoms = bulk("Si", cubic=True)
    atoms += Atoms("Si", positions=[atoms.positions[0] + atoms.cell[0] + atoms.cell[1]])
    atoms.set_cell(atoms.cell * 1.01, scale_atoms=True)
    atoms.calc = calculator
    for ask in (atoms.get_forces, lambda: calculator.get_hessian(atoms)):
        with pytest.raises(ValueError, match="atoms 0 and 8 are at the same position"):
            ask()


def test_tiny_cells(calculator):
    """A cell of 0.2 Å is computed; in one of 0.001 Å, 10¹¹ images lie within the cutoff, and this is said."""
    small, absurd = (Atoms("H", cell=length * np.eye(3), pbc=True, calculator=calculator) for length in (0.2, 0.001))
    assert np.isfinite(small.get_forces()).all()
    with pytest.raises(ValueError, match="the cell is too small, check it and its unit"):
        absurd.get_forces()


def test_nothing_is_left_of_the_old_structure_after_an_error(calculator):
    good, bad = TEST_SYSTEMS["molecule"](), Atoms("He")
    calculator.calculate(good)
    with pytest.raises(UnknownElementError):
        calculator.calculate(bad)
    with pytest.raises(UnknownElementError):
        calculator.get_property("energy", bad)
    assert calculator.results == {}
    assert calculator.get_property("forces", good).shape == (9, 3)


# Change detection


def test_same_structure_is_computed_once(crystal):
    calls = Evaluations(crystal.calc)
    for _ in range(3):
        crystal.get_potential_energy(), crystal.get_forces(), crystal.get_stress(), crystal.get_potential_energies()
    assert len(calls) == 1
    other = crystal.copy()  # another object with the same content
    other.calc = crystal.calc
    other.get_forces()
    assert len(calls) == 1


def _swap_numbers(atoms):
    atoms.numbers[[0, 1]] = atoms.numbers[[1, 0]]


@pytest.mark.parametrize(
    "change",
    [
        lambda atoms: atoms.positions.__iadd__(np.eye(8, 3) * 1e-3),
        lambda atoms: atoms.positions.__setitem__((3, 1), np.nextafter(atoms.positions[3, 1], 9.0)),
        lambda atoms: atoms.set_cell(atoms.cell * 1.001),
        lambda atoms: atoms.cell.__setitem__((0, 1), 1e-16),
        lambda atoms: atoms.set_pbc([True, True, False]),
        _swap_numbers,
    ],
    ids=["positions", "last bit of a position", "cell", "last bit of a cell", "pbc", "numbers"],
)
def test_every_change_is_seen(change, crystal):
    crystal.get_forces()
    calls = Evaluations(crystal.calc)
    change(crystal)
    found = crystal.get_forces()
    assert len(calls) == 1
    fresh = EquivariantCalculator(crystal.calc.potential)
    np.testing.assert_array_equal(found, fresh.get_property("forces", crystal))


def test_what_the_model_does_not_see_is_ignored(crystal):
    crystal.get_forces()
    calls = Evaluations(crystal.calc)
    crystal.info["key"] = 1
    crystal.set_tags(range(8))
    crystal.set_momenta(np.ones((8, 3)))
    crystal.set_initial_charges(np.ones(8))
    crystal.set_initial_magnetic_moments(np.ones(8))
    crystal.set_masses(np.ones(8))
    crystal.get_forces()
    assert len(calls) == 0


def test_adding_and_removing_atoms(crystal):
    first = crystal.get_potential_energy()
    crystal += Atoms("H", positions=[[1.0, 1.1, 0.9]])
    assert crystal.get_forces().shape == (9, 3)
    del crystal[8]
    assert crystal.get_potential_energy() == first


# Sharing, copying, saving


def test_the_users_atoms_are_not_changed(calculator):
    atoms = TEST_SYSTEMS["skewed"]()
    atoms.pbc, atoms.info["note"] = (True, True, False), {"a": 1}
    atoms.positions += 40.0  # outside the cell
    atoms.set_tags([1, 2, 3, 4])
    before, cell, pbc = deepcopy(atoms.arrays), atoms.cell.array.copy(), atoms.pbc.copy()
    atoms.calc = calculator
    atoms.get_forces(), atoms.get_stress()
    assert set(atoms.arrays) == set(before)
    for name, value in before.items():
        np.testing.assert_array_equal(atoms.arrays[name], value)
    np.testing.assert_array_equal(atoms.cell.array, cell)
    np.testing.assert_array_equal(atoms.pbc, pbc)
    assert atoms.info == {"note": {"a": 1}}
    assert atoms.constraints == []


def test_the_users_potential_is_not_changed(small_potential):
    before = {name: tensor.clone() for name, tensor in small_potential.state_dict().items()}
    calculator = EquivariantCalculator(small_potential, dtype="float32")
    Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]], calculator=calculator).get_forces()
    assert small_potential.dtype == torch.float64
    assert all(torch.equal(before[name], tensor) for name, tensor in small_potential.state_dict().items())


def test_several_atoms_share_one_calculator(calculator, small_potential):
    systems = [make() for make in TEST_SYSTEMS.values()]
    for atoms in systems:
        atoms.calc = calculator
    for _ in range(2):
        for atoms in systems:
            atoms.positions += 0.01
            fresh = EquivariantCalculator(small_potential)
            np.testing.assert_array_equal(atoms.get_forces(), fresh.get_property("forces", atoms))


def test_neb_with_a_shared_calculator(small_potential):
    """The same path as with a calculator for each image."""
    first = TEST_SYSTEMS["molecule"]()
    last = first.copy()
    last.positions += 0.1 * np.random.default_rng(0).normal(size=(9, 3))
    paths = []
    for shared in (True, False):
        images = [first.copy(), first.copy(), first.copy(), last.copy()]
        one = EquivariantCalculator(small_potential)
        for image in images:
            image.calc = one if shared else EquivariantCalculator(small_potential)
        neb = NEB(images, allow_shared_calculator=shared, method="improvedtangent")
        neb.interpolate()
        FIRE(neb, logfile=None).run(steps=3)
        paths.append(np.array([image.positions for image in images]))
    np.testing.assert_array_equal(*paths)


@pytest.mark.parametrize("copy", [deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("used", [True, False])
def test_copies(copy, used, crystal):
    if used:
        crystal.get_forces()
    duplicate = copy(crystal.calc)
    assert duplicate.todict() == crystal.calc.todict()
    np.testing.assert_array_equal(duplicate.get_property("forces", crystal), crystal.get_forces())
    crystal.positions[0, 0] += 0.1
    calls = Evaluations(duplicate)
    np.testing.assert_array_equal(duplicate.get_property("forces", crystal), crystal.get_forces())
    assert len(calls) == 1


def test_atoms_with_the_calculator_are_copied(crystal):
    duplicate = pickle.loads(pickle.dumps(crystal))
    assert duplicate.get_potential_energy() == crystal.get_potential_energy()


def test_trajectory_round_trip(crystal, tmp_path):
    path = tmp_path / "run.traj"
    crystal.get_stress()
    with Trajectory(path, "w", crystal) as trajectory:
        trajectory.write()
    with Trajectory(path) as trajectory:
        frame = trajectory[0]
    assert frame.calc.name == "equivariantcalculator"
    assert frame.get_potential_energy() == crystal.get_potential_energy()
    np.testing.assert_array_equal(frame.get_forces(), crystal.get_forces())
    np.testing.assert_array_equal(frame.get_stress(), crystal.get_stress())


def test_extxyz_round_trip(crystal, tmp_path):
    crystal.get_stress()
    write(tmp_path / "frame.xyz", crystal, format="extxyz")
    frame = read(tmp_path / "frame.xyz")
    assert frame.get_potential_energy() == pytest.approx(crystal.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(frame.get_forces(), crystal.get_forces(), atol=1e-7)
    np.testing.assert_allclose(frame.get_stress(), crystal.get_stress(), rtol=1e-7)


@pytest.mark.parametrize("suffix", ["db", "json"])
def test_database(suffix, crystal, tmp_path):
    energy = crystal.get_potential_energy()
    with ase.db.connect(tmp_path / f"run.{suffix}") as database:
        row = database.get(database.write(crystal))
    assert (row.energy, row.calculator) == (energy, "equivariantcalculator")
    assert row.calculator_parameters == crystal.calc.todict()
    np.testing.assert_array_equal(row.forces, crystal.get_forces())


def test_relaxation(calculator):
    atoms = TEST_SYSTEMS["molecule"]()
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=5)
    assert atoms.get_potential_energy() < before


# Settings


def test_todict_is_json_with_model_hash_and_version(small_potential, model_file):
    by_path = EquivariantCalculator(model_file, preset="md", skin=0.5)
    found = by_path.todict()
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "model": "small",
        "model_sha256": read_header(model_file).sha256,
        "device": "cpu",
        "dtype": "float32",
        "skin": 0.5,
        "preset": "md",
        "version": __version__,
    }
    own = EquivariantCalculator(small_potential).todict()
    assert (own["model"], own["model_sha256"], own["dtype"]) == ("custom", content_hash(small_potential), "float64")


def test_model_by_path_and_as_object_agree(small_potential, model_file, crystal):
    for model in (model_file, str(model_file)):
        calculator = EquivariantCalculator(model)
        assert calculator.card.name == "small"
        np.testing.assert_array_equal(calculator.get_property("forces", crystal), crystal.get_forces())
    assert (calculator.species, calculator.cutoff) == (("H", "C", "O", "Si"), 3.5)
    assert EquivariantCalculator(small_potential).card is None


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({}, torch.float64),
        ({"preset": "md"}, torch.float32),
        ({"preset": "relax"}, torch.float64),
        ({"preset": "phonon"}, torch.float64),
        ({"preset": "md", "dtype": "float64"}, torch.float64),
        ({"dtype": torch.float32}, torch.float32),
        ({"dtype": "float32"}, torch.float32),
    ],
    ids=str,
)
def test_presets_and_dtypes(settings, dtype, small_potential, crystal):
    calculator = EquivariantCalculator(small_potential, **settings)
    assert calculator.potential.dtype == dtype
    forces = calculator.get_property("forces", crystal)
    assert forces.dtype == np.float64
    np.testing.assert_allclose(forces, crystal.get_forces(), atol=0 if dtype == torch.float64 else 1e-3)
    if dtype == torch.float32:
        assert not np.array_equal(forces, crystal.get_forces())
    energy = calculator.get_property("energy", crystal)
    assert energy == pytest.approx(crystal.get_potential_energy(), abs=1e-4)  # of −2·10⁴ eV: shifts are not rounded
    assert calculator.get_property("energies", crystal).sum() == energy


@pytest.mark.parametrize("skin", [0.0, 0.3, 2.0])
def test_skin_changes_the_work_and_not_the_result(skin, small_potential):
    rng, atoms = np.random.default_rng(0), TEST_SYSTEMS["mixed"]()
    calculator = EquivariantCalculator(small_potential, skin=skin)
    for _ in range(10):
        atoms.positions += 0.02 * rng.normal(size=atoms.positions.shape)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 1e-3 * rng.normal(size=(3, 3))), scale_atoms=True)
        fresh = EquivariantCalculator(small_potential, skin=0.0)
        for name in ("energy", "forces", "stress"):
            np.testing.assert_array_equal(calculator.get_property(name, atoms), fresh.get_property(name, atoms))
    statistics = calculator.neighbors.statistics
    assert statistics.builds + statistics.reuses == 10
    assert {0.0: statistics.reuses == 0, 0.3: statistics.reuses > 0, 2.0: statistics.builds == 1}[skin]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"cutoff": 3.0}, TypeError, "cutoff"),
        ({"devise": "cpu"}, TypeError, "devise"),
        ({"dtype": "float16"}, ValueError, "dtype 'float16' is not supported: choose 'float32' or 'float64'"),
        ({"dtype": torch.int64}, ValueError, "choose 'float32' or 'float64'"),
        ({"preset": "MD"}, ValueError, "no preset 'MD': choose one of md, relax, phonon"),
        ({"device": "gpu"}, ValueError, "device 'gpu' cannot be used here .* try 'cpu'"),
        ({"skin": -1.0}, ValueError, "skin is -1.0: it must be a finite length in Å, zero or positive"),
        ({"skin": np.nan}, ValueError, "skin is nan"),
    ],
    ids=str,
)
def test_wrong_settings(settings, error, message, small_potential):
    with pytest.raises(error, match=message):
        EquivariantCalculator(small_potential, **settings)


def test_wrong_models(small_potential):
    with pytest.raises(ModelNotFoundError, match="no model named 'ethanoll'"):
        EquivariantCalculator("ethanoll")
    with pytest.raises(TypeError):
        EquivariantCalculator()
    with pytest.raises(TypeError):
        EquivariantCalculator(small_potential, "cpu")


def test_settings_are_fixed(calculator):
    with pytest.raises(TypeError, match="dtype, skin: the settings of an EquivariantCalculator are fixed"):
        calculator.set(skin=2.0, dtype="float32")
    assert calculator.set() == {}


# Shipped models


def test_shipped_ethanol():
    """The first lines of the documentation."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = EquivariantCalculator("ethanol")
    assert np.abs(atoms.get_forces()).max() < 3.0  # ASE's geometry is nearly relaxed
    assert_derivatives(atoms.calc, TEST_SYSTEMS["molecule"](), num_components=4)
    with pytest.raises(UnknownElementError, match="does not know Si: it was made for"):
        atoms.calc.get_potential_energy(bulk("Si"))


def test_shipped_silicon():
    """Diamond at its lattice constant has less energy than stretched or compressed, and stress of the right sign."""
    calculator, energies, pressures = EquivariantCalculator("si"), [], []
    for lattice_constant in (5.27, 5.47, 5.67):  # PBE: 5.469 Å
        atoms = bulk("Si", a=lattice_constant, cubic=True)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        pressures.append(np.trace(voigt_6_to_full_3x3_stress(atoms.get_stress())) / 3)
    assert energies[1] == min(energies)
    assert pressures[0] < -0.02
    assert abs(pressures[1]) < 0.01
    assert pressures[2] > 0.02
