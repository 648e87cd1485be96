"""Labels of read-outs out of files: shapes, units, origins, scales, and errors that help."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write
from ase.units import Bohr, Debye
from readout_data import KEYS, NETWORK, config, make_potential, water

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.training.database import write_database
from ase_equivariant.training.dataset import to_batch
from ase_equivariant.training.frames import Frame, Label
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.readers import DataError, read_frames
from ase_equivariant.training.readout_labels import as_numbers, set_readout_scales
from ase_equivariant.training.run import train


def test_labels_are_converted(labelled):
    teacher = make_potential()
    frame = read_frames(labelled, LabelConfig.parse(KEYS))[3]
    found = teacher(atoms_to_graph(water(3), teacher.cutoff))
    np.testing.assert_allclose(frame.readouts["dipole"].values, found["dipole"][0], atol=1e-7)
    np.testing.assert_allclose(frame.readouts["polarizability"].values, found["polarizability"][0], atol=1e-7)
    np.testing.assert_allclose(frame.readouts["charges"].values, found["charges"], atol=1e-7)


def test_units():
    assert Debye == pytest.approx(0.20819434)
    from ase_equivariant.training.readout_labels import POLARIZABILITY_UNITS

    # one atomic unit of polarizability is Bohr³
    assert POLARIZABILITY_UNITS["au"] == pytest.approx(Bohr**3 * POLARIZABILITY_UNITS["Angstrom3"], rel=1e-12)


def test_dipole_of_an_ion_is_moved_to_the_centre_of_mass(tmp_path):
    atoms = water(0)
    atoms.info.update(mu=[0.1, 0.2, 0.3], total=1)
    write(tmp_path / "ion.xyz", atoms, format="extxyz")
    frame = read_frames(tmp_path / "ion.xyz", LabelConfig(dipole_key="mu", charge_key="total"))[0]
    np.testing.assert_allclose(
        frame.readouts["dipole"].values, np.array([0.1, 0.2, 0.3]) - atoms.get_center_of_mass(), atol=1e-7
    )
    assert float(to_batch(frame, 3.0, torch.float64).graph.total_charge) == 1


@pytest.mark.parametrize("masses", [None, [15.999, 2.014, 1.008]])
def test_dipoles_of_the_calculator_come_back(tmp_path, masses):
    """Those of ions are about the centre of mass, of isotopes of their own; labels are about that of the elements."""
    atoms = water(0)
    atoms.info["charge"] = 1
    atoms.set_masses(masses)
    atoms.calc = EquivariantCalculator(make_potential([{"kind": "dipole", "charges": True}]))
    atoms.get_dipole_moment()
    expected = atoms.calc.prediction["dipole"][0]
    for ending in ("xyz", "traj"):
        write(tmp_path / f"own.{ending}", atoms)
        frame = read_frames(tmp_path / f"own.{ending}", LabelConfig(dipole_origin="mass"))[0]
        np.testing.assert_allclose(frame.readouts["dipole"].values, expected, atol=1e-7)
    write_database(tmp_path / "own.db", [frame])
    np.testing.assert_allclose(read_frames(tmp_path / "own.db")[0].readouts["dipole"].values, expected, atol=1e-7)


def test_charges_that_do_not_sum_to_the_structures_are_refused(tmp_path):
    atoms = water(0)
    atoms.arrays["q"] = np.array([0.4, 0.3, 0.3])
    atoms.info["total"] = 1
    write(tmp_path / "ion.xyz", atoms, format="extxyz")
    assert read_frames(tmp_path / "ion.xyz", LabelConfig(charges_key="q", charge_key="total"))
    with pytest.raises(DataError, match=r"sum to 1 e, the structure's charge is 0: name it by data.charge_key"):
        read_frames(tmp_path / "ion.xyz", LabelConfig(charges_key="q"))


@pytest.mark.parametrize(
    ("info", "options", "message"),
    [
        ({"mu": [1.0, 2.0]}, {"dipole_key": "mu"}, r"dipole has the wrong shape \(2,\): \(3,\) is wanted"),
        ({"mu": "none"}, {"dipole_key": "mu"}, r"dipole is no number: 'none'"),
        ({"E": [1.0, 2.0]}, {"energy_key": "E"}, r"energy has the wrong shape \(2,\): one number is wanted"),
        ({"s": [1.0, 2.0]}, {"stress_key": "s"}, r"stress has the wrong shape \(2,\): \(6,\) or \(3, 3\) is wanted"),
        ({"mu": [1.0, 2.0, np.nan]}, {"dipole_key": "mu"}, "not finite"),
        ({"other": [1.0, 2.0, 3.0]}, {"dipole_key": "mu"}, "dipole_key = 'mu' is in no structure"),
        ({"alpha": np.arange(9.0)}, {"polarizability_key": "alpha"}, "not symmetric"),
        ({"f": np.ones((3, 4))}, {"forces_key": "f"}, r"forces has the wrong shape \(3, 4\): \(4, 3\) is wanted"),
        ({"s": np.ones((2, 3))}, {"stress_key": "s"}, r"stress has the wrong shape \(2, 3\): \(6,\) or \(3, 3\)"),
        ({"Z": np.ones((9, 4))}, {"readout_keys": {"born_effective_charges": "Z"}}, r"\(9, 4\): \(4, 3, 3\) is"),
    ],
)
def test_wrong_labels_are_refused(tmp_path, info, options, message):
    atoms = molecule("NH3")
    atoms.info.update(info)
    write(tmp_path / "one.traj", atoms)
    with pytest.raises(DataError, match=message):
        read_frames(tmp_path / "one.traj", LabelConfig.parse(options))


@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 9), (36,), (1, 4, 9), (4, 1, 3, 3)])
def test_labels_may_be_flattened(shape):
    found = as_numbers("Z", np.arange(36.0).reshape(shape), (4, 3, 3))
    np.testing.assert_array_equal(found, np.arange(36.0).reshape(4, 3, 3))


@pytest.mark.parametrize(("charge", "scatter"), [(0.4, 0.0), (0.0, 0.0), (0.4, 0.1)])
def test_what_constant_labels_leave_is_no_scale(charge, scatter):
    """Charges that species fix leave rounding, 1e-17, which the loss would divide by."""
    potential, frames, rng = make_potential(), [], np.random.default_rng(0)
    for seed in range(20):
        values = np.array([-2 * charge, charge, charge]) + scatter * rng.normal(size=3)
        frames.append(Frame(water(seed), readouts={"charges": Label(values, per_atom=True)}))
    set_readout_scales(potential, frames)
    assert potential.readouts["charges"].scaling.scale.tolist() == pytest.approx([scatter or 1.0] * 2, rel=0.3)


def test_periodic_dipoles_are_refused(tmp_path):
    atoms = water(0)
    atoms.info["mu"] = [0.0, 0.0, 1.0]
    atoms.set_cell([9.0, 9.0, 9.0])
    atoms.pbc = True
    write(tmp_path / "box.xyz", atoms, format="extxyz")
    with pytest.raises(DataError, match="periodic structure has no dipole"):
        read_frames(tmp_path / "box.xyz", LabelConfig(dipole_key="mu"))


def test_npz(tmp_path):
    positions = np.array([water(k).positions for k in range(3)])
    dipoles = np.arange(9.0).reshape(3, 3)
    arrays = {"coords": positions, "nuclear_charges": np.array([8, 1, 1]), "energies": np.zeros(3), "dipole": dipoles}
    np.savez(tmp_path / "data.npz", **arrays)
    frames = read_frames(tmp_path / "data.npz", LabelConfig(dipole_key="dipole", dipole_units="Debye"))
    np.testing.assert_allclose([frame.readouts["dipole"].values for frame in frames], dipoles * Debye)
    with pytest.raises(DataError, match="no array 'mu'"):
        read_frames(tmp_path / "data.npz", LabelConfig(dipole_key="mu"))


def test_every_readout_of_an_npz(tmp_path):
    rng = np.random.default_rng(0)
    alphas = rng.normal(size=(4, 3, 3))
    arrays = {
        "coords": np.array([water(k).positions for k in range(4)]),
        "nuclear_charges": np.array([8, 1, 1]),
        "energies": np.zeros(4),
        "alpha": alphas + alphas.swapaxes(1, 2),
        "q": rng.normal(size=(4, 3, 1)),
        "Z": rng.normal(size=(4, 3, 3, 3)),
        "quadrupole": rng.normal(size=(4, 5)),
        "spin": rng.normal(size=(4, 3, 3)),
    }
    arrays["q"] -= arrays["q"].mean(1, keepdims=True)
    np.savez(tmp_path / "data.npz", **arrays)
    keys = {"born_effective_charges": "Z", "quadrupole": "quadrupole", "spin": "spin"}
    config = LabelConfig(polarizability_key="alpha", charges_key="q", readout_keys=keys)
    frames = read_frames(tmp_path / "data.npz", config)
    label = frames[2].readouts
    assert {name for name in label if label[name].per_atom} == {"charges", "born_effective_charges", "spin"}
    np.testing.assert_allclose(label["polarizability"].values, arrays["alpha"][2])
    np.testing.assert_allclose(label["charges"].values, arrays["q"][2, :, 0])
    for name, key in keys.items():
        np.testing.assert_allclose(label[name].values, arrays[key][2])


def test_the_model_says_which_arrays_of_an_npz_are_by_atom(tmp_path):
    """A scalar of each atom, and a tensor of a molecule of three atoms, whose arrays have the same shapes otherwise."""
    rng = np.random.default_rng(0)
    arrays = {"spin": rng.normal(size=(6, 3)), "tensor": rng.normal(size=(6, 3, 3))}
    coords = np.array([water(k).positions for k in range(6)])
    np.savez(tmp_path / "a.npz", coords=coords, nuclear_charges=[8, 1, 1], energies=np.zeros(6), **arrays)
    readouts = [
        {"kind": "irreps", "name": "spin", "value": "0e", "of": "atoms"},
        {"kind": "irreps", "name": "tensor", "value": "0e+1e+2e"},
    ]
    values = config(
        tmp_path / "a.npz",
        tmp_path / "run",
        data={"train": str(tmp_path / "a.npz"), "validation": 2, "readout_keys": {name: name for name in arrays}},
        model={"architecture": {**NETWORK, "irreps_hidden": "4x0e+4x1o+4x1e+4x2e"}, "readouts": readouts},
        run={"folder": str(tmp_path / "run"), "max_epochs": 1, "batch_size": 4, "threads": 1},
    )
    found = train(values, quiet=True).evaluations["validation"].comparisons
    assert (found["spin"].reference.shape, found["tensor"].reference.shape) == ((6, 1), (2, 9))
    frame = read_frames(tmp_path / "a.npz", values.data.label_config(), of_atoms={"spin"})[4]
    np.testing.assert_array_equal(frame.readouts["spin"].values, arrays["spin"][4, :, None])
    np.savez(tmp_path / "b.npz", coords=coords, nuclear_charges=[8, 1, 1], energies=np.zeros(6), tensor=np.ones((6, 9)))
    with pytest.raises(DataError, match=r"structure 0: .*tensor has the wrong shape .*, a row for each atom"):
        read_frames(tmp_path / "b.npz", LabelConfig(readout_keys={"tensor": "tensor"}), of_atoms={"tensor"})


@pytest.mark.parametrize(
    ("alpha", "error"),
    [
        (np.eye(3)[None].repeat(3, 0), "4 structures but 3 alpha"),
        (np.zeros((4, 3)), r"structure 0: .*polarizability has the wrong shape \(3,\): \(3, 3\) is wanted"),
    ],
)
def test_readouts_that_do_not_fit_an_npz(tmp_path, alpha, error):
    coords = np.array([water(k).positions for k in range(4)])
    np.savez(tmp_path / "a.npz", coords=coords, nuclear_charges=[8, 1, 1], energies=np.zeros(4), alpha=alpha)
    with pytest.raises(DataError, match=error):
        read_frames(tmp_path / "a.npz", LabelConfig(polarizability_key="alpha"))
