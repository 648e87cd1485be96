"""Read-outs beside the energy through files, training, evaluation and the calculator."""

import hashlib
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import write
from ase.units import Bohr, Debye, Hartree
from typer.testing import CliRunner

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.cli.main import app
from ase_equivariant.config import ConfigError
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.model_file import ModelCard, ModelFileError, load_model, save_model
from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.training.build import Start, make_fingerprint
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.database import write_database
from ase_equivariant.training.dataset import Batch, to_batch
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.fit_config import LossConfig
from ase_equivariant.training.frames import Frame, Label
from ase_equivariant.training.label_checks import warn_of_idle_readouts
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.loss import Loss, compute_errors
from ase_equivariant.training.readers import DataError, read_frames
from ase_equivariant.training.readout_labels import as_numbers, set_readout_scales
from ase_equivariant.training.run import train
from ase_equivariant.training.splits import Splits

NETWORK = {"cutoff": 4.0, "num_layers": 2, "irreps_hidden": "4x0e+4x1o+4x2e", "num_radial": 4, "radial_hidden": [8]}
READOUTS = [{"kind": "dipole"}, {"kind": "polarizability"}, {"kind": "charges"}]
KEYS = {
    "energy_key": "U", "dipole_key": "mu", "dipole_units": "au", "polarizability_key": "alpha",
    "polarizability_units": "au", "charges_key": "q",
}  # fmt: skip


def make_potential(readouts=READOUTS, seed=5):
    torch.manual_seed(seed)
    architecture = {**NETWORK, "species": ["H", "O"], "avg_num_neighbors": 3.0}
    return Potential(PotentialConfig.parse({"architecture": architecture, "readouts": readouts}))


def water(seed):
    atoms = molecule("H2O")
    atoms.positions += 0.1 * np.random.default_rng(seed).normal(size=(3, 3)) + [4.0, 0.0, -2.0]
    return atoms


@pytest.mark.parametrize(
    ("data", "readouts", "loss", "message"),
    [
        ({"dipole_key": "mu"}, [], {}, "data names labels of dipole, which the model does not predict: list it in"),
        ({"readout_keys": {"ax": "a"}}, [{"kind": "dipole"}], {}, "data names labels of ax, which"),
        ({}, [{"kind": "dipole"}], {"dipole": {"weight": 0}}, "nothing teaches the read-out dipole, whose weight"),
        (KEYS, READOUTS, {}, None),
        (
            {"readout_keys": {"born_effective_charges": "Z"}},
            [{"kind": "dipole"}],
            {"dipole": {"weight": 0.0}, "born_effective_charges": {"weight": 1.0}},
            None,
        ),
    ],
)
def test_idle_readouts_and_labels_are_told(data, readouts, loss, message):
    model = {"architecture": {**NETWORK, "species": ["H", "O"]}, "readouts": readouts}
    config = TrainConfig.parse({"data": {"train": "a.xyz", **data}, "model": model, "loss": {"readouts": loss}})
    if message is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_idle_readouts(config)
    else:
        with pytest.warns(UserWarning, match=message):
            warn_of_idle_readouts(config)


@pytest.fixture
def labelled(tmp_path):
    """A file with labels in atomic units, as another network gives them."""
    teacher, structures = make_potential(), []
    for seed in range(12):
        atoms = water(seed)
        found = teacher(atoms_to_graph(atoms, teacher.cutoff))
        atoms.info["U"] = float(found["energy"][0])
        atoms.info["mu"] = found["dipole"][0].numpy() / Bohr
        atoms.info["alpha"] = found["polarizability"][0].numpy().ravel() / (Bohr**2 / Hartree)
        atoms.arrays["q"] = found["charges"].numpy()
        structures.append(atoms)
    write(tmp_path / "water.xyz", structures, format="extxyz")
    return tmp_path / "water.xyz"


def config(labelled, folder, **values):
    given = {
        "data": {"train": str(labelled), "validation": 2, "test": 2, **KEYS},
        "model": {"architecture": NETWORK, "readouts": READOUTS},
        "loss": {"forces": {"weight": 0.0}},
        "run": {"folder": str(folder), "max_epochs": 3, "batch_size": 4, "threads": 1},
    }
    return TrainConfig.parse({**given, **values})


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


def test_loss_divides_by_scales_and_leaves_out_what_is_not_labelled(labelled):
    potential = make_potential(seed=6)
    frames = read_frames(labelled, LabelConfig.parse(KEYS))[:3]
    samples = [to_batch(frame, potential.cutoff, torch.float64) for frame in frames]
    samples[1].readouts.pop("dipole")
    batch = Batch.collate(samples)
    errors = compute_errors(potential(batch.graph), batch)
    assert int(errors["dipole"].count) == 6
    assert errors["dipole"].values[1].eq(0).all()
    loss = Loss(LossConfig.parse({"readouts": {"charges": {"weight": 0.0}}}), readouts={"dipole": 0.5, "charges": 1.0})
    assert list(loss.terms) == ["energy", "forces", "dipole"]
    expected = errors["dipole"].values.square().sum() / 0.25
    torch.testing.assert_close(loss.sums(errors, batch)[2, 0], expected)


def test_training_evaluation_files(labelled, tmp_path):
    """Errors fall, what is written is read again and says the same, and a changed weight is noticed."""
    run = {"folder": str(tmp_path / "run"), "max_epochs": 25, "batch_size": 4, "threads": 1, "ema_decay": 0.5}
    result = train(config(labelled, tmp_path, run=run, optimizer={"lr": 0.02}), quiet=True)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_polarizability_rmse")
    values = [float(row.split(",")[column]) for row in rows[1:]]
    assert values[-1] < 0.7 * values[0]
    loaded = load_model(result.model_file)
    assert {"dipole RMSE", "polarizability MAE"} <= {name.split(" (")[0][5:] for name in loaded.card.errors}
    assert set(loaded.header.golden.readouts) == {"dipole", "polarizability", "charges"}
    assert loaded.header.units["polarizability"] == "e²·Å²/eV"
    references = loaded.potential.readouts["polarizability"].scaling.shift
    assert references.abs().min() > 0
    arguments = [str(result.model_file), str(labelled), "--json", str(tmp_path / "errors.json")]
    for name, value in KEYS.items():
        arguments += [f"--{name.replace('_', '-')}", value] if name != "charges_key" else []
    outcome = CliRunner().invoke(app, ["evaluate", *arguments])
    assert outcome.exit_code == 0, outcome.output
    errors = json.loads((tmp_path / "errors.json").read_text())["errors"]
    assert "dipole RMSE (10⁻³ e·Å)" in errors
    outcome = CliRunner().invoke(app, ["info", str(result.model_file)])
    assert "(e²·Å²/eV)" in outcome.output
    frames = read_frames(labelled, LabelConfig.parse(KEYS))
    comparison = evaluate(loaded.potential, frames).comparisons["polarizability"]
    assert comparison.reference.shape == (12, 3, 3)
    assert comparison.spread == pytest.approx(np.sqrt(comparison.reference.var(axis=0).mean()))


def test_fine_tuning_takes_read_outs_over(labelled, tmp_path):
    """From a model file, with its scales and, where frozen, its weights; replayed structures get labels of it."""
    parent = make_potential(seed=7)
    parent.readouts["dipole"].scaling.set(scale=[0.3, 0.4])
    save_model(tmp_path / "m.safetensors", parent, ModelCard(name="m"))
    settings = TrainConfig.parse({
        "init": str(tmp_path / "m.safetensors"),
        "finetune": {"freeze": ["readouts"], "replay": {"files": str(labelled), "labelled_by": "init", **KEYS}},
        "data": {"train": str(labelled), "validation": 2, **KEYS},
        "loss": {"forces": {"weight": 0.0}},
        "run": {"folder": str(tmp_path / "tuned"), "max_epochs": 1, "batch_size": 4, "threads": 1, "dtype": "float64"},
    })  # fmt: skip
    tuned = load_model(train(settings, quiet=True).model_file).potential
    found, kept = tuned.state_dict(), parent.state_dict()
    assert found["readouts.dipole.scaling.scale"].tolist() == [0.3, 0.4]
    assert any(name.startswith("readouts.") for name in kept)
    for name, weights in kept.items():
        if name.startswith("readouts."):
            assert torch.equal(found[name], weights)
    assert not torch.equal(found["network.embedding"], kept["network.embedding"])


def test_golden_readouts_are_asked_again(tmp_path):
    """Weights of a read-out do not move the energy, and are checked all the same."""
    potential = make_potential()
    save_model(tmp_path / "m.safetensors", potential, ModelCard(name="m"))
    loaded = load_model(tmp_path / "m.safetensors")
    golden = loaded.header.golden
    loaded.potential.double().readouts["dipole"].tensor.last.weights["1o"].data *= 1.001
    from ase_equivariant.io.golden import GoldenMismatchError, check_golden

    with pytest.raises(GoldenMismatchError, match="dipole"):
        check_golden(loaded.potential, golden)
    assert issubclass(ModelFileError, ValueError)


@pytest.mark.parametrize("fast", [None, False])
def test_calculator(fast):
    potential = make_potential()
    atoms = water(1)
    atoms.calc = EquivariantCalculator(potential, fast=fast)
    expected = potential(atoms_to_graph(atoms, potential.cutoff), born_charges=True)
    atoms.get_forces()
    np.testing.assert_allclose(atoms.get_dipole_moment(), expected["dipole"][0].numpy(), atol=1e-12)
    np.testing.assert_allclose(atoms.get_charges(), expected["charges"].numpy(), atol=1e-12)
    alpha = atoms.calc.get_property("polarizability", atoms)
    assert alpha.shape == (3, 3)
    np.testing.assert_allclose(alpha, expected["polarizability"][0].numpy(), atol=1e-12)
    assert "born_effective_charges" not in atoms.calc.results
    born = atoms.calc.get_property("born_effective_charges", atoms)
    np.testing.assert_allclose(born, expected["born_effective_charges"].numpy(), atol=1e-12)
    atoms.set_cell([8.0, 8.0, 8.0])
    atoms.pbc = True
    with pytest.raises(PropertyNotImplementedError, match="choice of the cell"):
        atoms.get_dipole_moment()
    assert atoms.calc.get_property("born_effective_charges", atoms).shape == (3, 3, 3)
    plain = Atoms("H", calculator=EquivariantCalculator(make_potential(readouts=[])))
    with pytest.raises(PropertyNotImplementedError):
        plain.get_dipole_moment()


@pytest.mark.parametrize("fast", [None, False])
def test_whoever_asks_for_all_that_is_implemented_catches_one_error(fast):
    """Of a crystal and a model with point charges: neither a dipole nor its derivatives."""
    atoms, refused = water(1), {}
    atoms.set_cell([8.0, 8.0, 8.0])
    atoms.pbc = True
    atoms.calc = EquivariantCalculator(make_potential(readouts=[{"kind": "dipole", "charges": True}]), fast=fast)
    for name in atoms.calc.implemented_properties:
        try:
            atoms.calc.get_property(name, atoms)
        except PropertyNotImplementedError as error:
            refused[name] = str(error)
    assert set(refused) == {"dipole", "born_effective_charges"}
    assert "train a read-out with charges = false" in refused["born_effective_charges"]


def molecules_and_ice(born, ice):
    """Six molecules, all in boxes with periodic images but the first where ``ice``, and which have Born charges."""
    structures = [water(seed) for seed in range(6)]
    for k, atoms in enumerate(structures):
        atoms.info["energy"] = 0.1 * k
        if ice and k:
            atoms.set_cell([8.0, 8.0, 8.0])
            atoms.pbc = True
        if k in born:
            atoms.arrays["born"] = np.zeros((3, 9))
    return structures


@pytest.mark.parametrize("weight", [1.0, 0.0])
@pytest.mark.parametrize("born", [(0,), (5,)], ids=["of a molecule", "of ice"])
@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_born_charges_of_crystals_need_a_dipole_without_charges(tmp_path, part, born, weight):
    """Said before anything is written: a batch computes them for all it has, and evaluation whatever the weight."""
    data = {"train": "training", "validation": "validation", "test": "test"}
    for key, name in data.items():
        labelled = born if name == part else range(1)
        write(tmp_path / f"{name}.xyz", molecules_and_ice(labelled, ice=name == part), format="extxyz")
        data[key] = str(tmp_path / f"{name}.xyz")
    asked = config(
        tmp_path,
        tmp_path / "run",
        data={**data, "readout_keys": {"born_effective_charges": "born"}},
        model={"architecture": NETWORK, "readouts": [{"kind": "dipole", "charges": True}]},
        loss={
            "forces": {"weight": 0.0},
            "readouts": {"dipole": {"weight": 0.0}, "born_effective_charges": {"weight": weight}},
        },
    )
    with pytest.raises(DataError, match=rf"{part} structures have Born .* periodic, .* set charges = false"):
        train(asked, quiet=True)
    assert not (tmp_path / "run").exists()


def test_loss_names_what_the_model_predicts(labelled, tmp_path):
    with pytest.raises(ConfigError, match="'quadrupole'"):
        config(labelled, tmp_path, loss={"readouts": {"quadrupole": {"weight": 1.0}}})


NOTHING_ELSE = {"energy": {"weight": 0.0}, "forces": {"weight": 0.0}}


def test_a_dipole_may_be_all_that_is_trained(tmp_path):
    teacher, structures = make_potential(), [water(seed) for seed in range(12)]
    for atoms in structures:
        atoms.info["mu"] = teacher(atoms_to_graph(atoms, teacher.cutoff))["dipole"][0].numpy()
    write(tmp_path / "water.xyz", structures, format="extxyz")
    result = train(
        config(
            tmp_path / "water.xyz",
            tmp_path / "run",
            data={"train": str(tmp_path / "water.xyz"), "validation": 2, "dipole_key": "mu", "references": "none"},
            model={"architecture": NETWORK, "readouts": [{"kind": "dipole"}]},
            loss=NOTHING_ELSE,
            run={"folder": str(tmp_path / "run"), "max_epochs": 30, "batch_size": 4, "threads": 1, "ema_decay": 0.5},
        ),
        quiet=True,
    )
    dipole = result.evaluations["validation"].comparisons["dipole"]
    assert set(result.evaluations["validation"].comparisons) == {"dipole"}
    assert dipole.rmse < 0.5 * dipole.spread


def test_a_loss_of_nothing_names_the_read_outs(labelled, tmp_path):
    unused = {name: {"weight": 0.0} for name in ("dipole", "polarizability", "charges")}
    with pytest.raises(ConfigError, match=r"every weight of the loss is zero: .* loss\.readouts\.dipole"):
        config(labelled, tmp_path, loss={**NOTHING_ELSE, "readouts": unused})


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_labels_of_another_shape_are_told_before_the_training(tmp_path, part):
    for name, width in (("train", 4 if part == "training" else 3), ("validation", 3), (part, 4)):
        structures = [water(seed) for seed in range(6)]
        for k, atoms in enumerate(structures):
            atoms.info["U"], atoms.info["v"] = 0.1 * k, np.ones(width if k == 2 else 3)
        write(tmp_path / f"{name}.xyz", structures, format="extxyz")
    files = {"validation": "validation.xyz"} if part == "training" else {part: f"{part}.xyz"}
    data = {key: str(tmp_path / file) for key, file in ({"train": "train.xyz"} | files).items()}
    keys = {"energy_key": "U", "readout_keys": {"mine": "v"}}
    model = {"architecture": NETWORK, "readouts": [{"kind": "irreps", "name": "mine", "value": "1o"}]}
    values = config(tmp_path, tmp_path / "run", data={"validation": 2, **data, **keys}, model=model)
    with pytest.raises(DataError, match=rf"{part} structure 2: labels of mine have shape \(1, 4\), pred"):
        train(values, quiet=True)
    assert not (tmp_path / "run").exists()


def test_labels_of_different_shapes_make_no_batch():
    """As structures that are streamed show one after the other."""
    frames = [Frame(water(k), readouts={"mine": Label(np.ones(3 + k), per_atom=False)}) for k in range(2)]
    with pytest.raises(DataError, match=r"labels of mine differ .*: \(3,\) of a structure and \(4,\) of a structure"):
        Batch.collate([to_batch(frame, 4.0, torch.float64) for frame in frames])


def test_labels_must_be_there(labelled, tmp_path):
    data = {"train": str(labelled), "validation": 2, **{k: v for k, v in KEYS.items() if k != "dipole_key"}}
    with pytest.raises(DataError, match=r"data\.dipole_key"):
        train(config(labelled, tmp_path / "run", data=data), quiet=True)


def test_fingerprint_of_runs_without_readouts_has_no_trace_of_them():
    plain = TrainConfig.parse({"data": {"train": "x.xyz"}, "model": {"architecture": NETWORK}})
    assert "readout" not in plain.fingerprint().replace("readout_hidden", "")
    assert "dipole" not in plain.fingerprint()


DIPOLE = [{"kind": "dipole", "charges": True}]


def run_of(readouts):
    model = {"architecture": {**NETWORK, "species": ["H", "O"]}, "readouts": readouts}
    return TrainConfig.parse({"data": {"train": "x.xyz"}, "model": model})


def fingerprint(frame, readouts, of_replay=False):
    """Of a run on a structure, or one that mixes it in."""
    samples = [] if of_replay else [to_batch(frame, 4.0, torch.float64)]
    start = Start(make_potential(readouts), run_of(readouts), samples, [], {}, [frame] if of_replay else [])
    return make_fingerprint(start, Splits([], [], [], [], {}), {"training": samples})


def changed(frame, change):
    atoms = frame.atoms.copy()
    if change == "charge":
        atoms.info["charge"] = -1
    elif change == "place":  # edges stay what they are to the bit
        atoms.positions += 8.0
    readouts = {"dipole": Label(np.ones(3), per_atom=False)} if change == "dipole" else frame.readouts
    return replace(frame, atoms=atoms, energy=0.0 if change == "energy" else None, readouts=readouts)


@pytest.mark.parametrize(
    ("change", "readouts", "of_replay", "differs"),
    [
        (None, DIPOLE, False, False),
        ("charge", DIPOLE, False, True),
        ("place", DIPOLE, False, True),
        ("energy", DIPOLE, False, True),
        ("charge", [], False, True),
        ("place", [], False, False),
        ("charge", DIPOLE, True, True),
        ("dipole", DIPOLE, True, True),
        ("dipole", [], True, False),
    ],
)
def test_a_run_goes_on_with_the_same_structures_only(change, readouts, of_replay, differs):
    """A label of zero is not the same as none; what models of energies do not see was in no fingerprint."""
    atoms = water(0)
    atoms.positions = np.round(8 * atoms.positions) / 8
    frame = Frame(atoms, readouts={"dipole": Label(np.zeros(3), per_atom=False)})
    found = {fingerprint(each, readouts, of_replay) for each in (frame, changed(frame, change))}
    assert len(found) == 1 + differs


def test_fingerprints_of_energies_and_forces_stay_what_they_are():
    """Runs that were begun before other read-outs and charges counted go on."""
    frame = Frame(water(0), -1.0, np.ones((3, 3)))
    sample = to_batch(frame, 4.0, torch.float64)
    content = [sample.graph.atomic_numbers, sample.graph.edge_vectors, sample.energy, sample.forces, sample.stress]
    expected = run_of([]).fingerprint().encode() + b"training" + b"".join(t.numpy().tobytes() for t in content)
    assert fingerprint(frame, []) == hashlib.sha256(expected + b"replay").hexdigest()
