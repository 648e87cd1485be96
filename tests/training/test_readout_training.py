"""Read-outs beside the energy through files, training, evaluation and the calculator."""

import json
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io import write
from readout_data import KEYS, NETWORK, READOUTS, config, make_potential, water
from typer.testing import CliRunner

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.cli.main import app
from ase_equivariant.config import ConfigError
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.model_file import ModelCard, ModelFileError, load_model, save_model
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import Batch, to_batch
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.fit_config import LossConfig
from ase_equivariant.training.frames import Frame, Label
from ase_equivariant.training.label_checks import warn_of_idle_readouts
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.loss import Loss, compute_errors
from ase_equivariant.training.readers import DataError, read_frames
from ase_equivariant.training.run import train


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
