"""Starting from a trained model: frozen parts stay, references are refitted, replay mixes, runs go on."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import read, write
from emt_data import SMALL, emt_atoms, emt_frames, small_config
from test_run import CountingClock, rows
from typer.testing import CliRunner

from ase_equivariant.cli.main import app
from ase_equivariant.config import ConfigError
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.model_file import ModelCard, load_model, save_model
from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.training import callbacks
from ase_equivariant.training.build import build_start, make_fingerprint, summary
from ase_equivariant.training.checkpoint import CheckpointError
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import make_samples
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.finetune import frozen_parts
from ase_equivariant.training.loader import EpochLoader
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.run import train
from ase_equivariant.training.splits import Splits, make_splits


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A model of Cu and Au, trained a little, and its data."""
    folder = tmp_path_factory.mktemp("parent")
    write(folder / "emt.xyz", emt_atoms(16))
    return train(small_config(folder / "emt.xyz", folder / "run"), quiet=True).model_file


@pytest.fixture
def shifted(tmp_path):
    """Other structures with energies that count from elsewhere: 3 eV an atom of copper, −1 an atom of gold."""
    atoms = emt_atoms(12, seed=9)
    for a in atoms:
        a.calc.results["energy"] += 3.0 * np.count_nonzero(a.symbols == "Cu") - np.count_nonzero(a.symbols == "Au")
    write(tmp_path / "shifted.xyz", atoms)
    return tmp_path / "shifted.xyz"


def config(data, parent, folder, finetune=None, **sections):
    values = {
        "init": str(parent),
        "data": {"train": str(data), "validation": 4, **sections.pop("more_data", {})},
        "run": {"folder": str(folder), "max_epochs": 3, "batch_size": 4, "threads": 1, **sections.pop("run", {})},
        "loss": {name: {"weight": 1.0} for name in ("energy", "forces", "stress")},
        **sections,
    }
    return TrainConfig.parse({**values, "finetune": finetune or {}})


def start_of(settings):
    return build_start(settings, make_splits(settings.data))


def test_before_the_first_step_it_is_the_parent(shifted, parent, tmp_path):
    settings = config(shifted, parent, tmp_path, {"references": "frozen"}, run={"dtype": "float64"})
    start, original = start_of(settings), load_model(parent).potential.double()
    graph = atoms_to_graph(emt_frames(1)[0].atoms, original.cutoff)
    torch.testing.assert_close(start.potential(graph)["energy"], original(graph)["energy"], atol=1e-13, rtol=0)
    torch.testing.assert_close(start.potential(graph)["forces"], original(graph)["forces"], atol=1e-12, rtol=0)
    assert start.config.model == original.config
    assert start.config.optimizer.lr == 0.001
    assert start.parent["name"] == "model"


def test_references_are_refitted_in_closed_form(shifted, parent, tmp_path):
    """The parent is off by its own error and the shift; least squares leaves no element-wise error behind."""
    settings = config(shifted, parent, tmp_path, run={"dtype": "float64"})
    start, splits = start_of(settings), make_splits(settings.data)
    original = load_model(parent).potential
    moves = start.potential.scaling.shift - original.scaling.shift
    np.testing.assert_allclose(moves, [3.0, -1.0], atol=0.5)  # the rest is what the parent has not learned
    energies = np.array([frame.energy for frame in splits.train])
    graphs = [atoms_to_graph(frame.atoms, start.potential.cutoff) for frame in splits.train]
    off = energies - [float(start.potential(graph, forces=False)["energy"][0]) for graph in graphs]
    counts = np.array([[np.count_nonzero(f.atoms.symbols == s) for s in ("Cu", "Au")] for f in splits.train])
    np.testing.assert_allclose(counts.T @ off, 0, atol=1e-9)


@pytest.mark.parametrize("names", [["embedding"], ["radial", "readout"], ["layers.0"], ["layers", "basis"]])
def test_frozen_parts_keep_every_bit(shifted, parent, tmp_path, names):
    optimizer = {"name": "muon", "lr": 0.01, "weight_decay": 0.1}
    settings = config(shifted, parent, tmp_path / "run", {"freeze": names}, optimizer=optimizer)
    result = train(settings, quiet=True)
    before, after = (load_model(file).potential for file in (parent, result.model_file))
    kept = {name for part in names for name in frozen_parts(before)[part]}
    assert kept
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    for name in old:
        assert torch.equal(old[name], new[name]) == (name in kept), name


def test_it_starts_better_and_learns(shifted, parent, tmp_path):
    settings = config(shifted, parent, tmp_path / "tuned", run={"max_epochs": 15}, optimizer={"lr": 0.005})
    untouched = start_of(settings)
    frames = make_splits(settings.data).validation
    before = evaluate(untouched.potential.double(), frames).errors()["forces RMSE (meV/Å)"]
    result = train(settings, quiet=True)
    after = evaluate(load_model(result.model_file).potential.double(), frames).errors()["forces RMSE (meV/Å)"]
    assert after < 0.9 * before
    card, sha256 = load_model(result.model_file).card, load_model(parent).header.sha256
    assert card.training["parent"] == {"name": "model", "sha256": sha256, "license": "MIT"}
    data = card.training["config"]["data"]
    assert data["train"] == shifted.name
    assert data["polarizability_units"] == "e2*Angstrom2/eV"  # not a file, for all its slash
    shown = CliRunner().invoke(app, ["info", str(result.model_file)]).output
    assert f"fine-tunedfrommodel(sha256{sha256},MIT)" in "".join(shown.split())  # lines break anywhere


def test_replay_takes_its_share_of_every_batch_and_is_the_same_each_time():
    own, other = (make_samples(emt_frames(n, seed), 3.5, torch.float64) for n, seed in ((10, 0), (7, 5)))
    marks = [float(sample.energy) for sample in other]

    def batches(epoch=0, skip=0):
        loader = EpochLoader(own, 6, seed=3, replay=other, replay_fraction=1 / 3)
        loader.epoch, loader.skip = epoch, skip
        assert loader.batches_per_epoch == 3
        return [batch.energy.tolist() for batch in loader]

    first = batches()
    assert [len(energies) for energies in first] == [6, 6, 4]
    assert all(sum(e in marks for e in energies) == 2 for energies in first)
    drawn = [tuple(e for e in energies if e in marks) for energies in first]
    assert len(set(drawn)) > 1
    assert batches() == first
    assert batches(skip=2) == first[2:]
    assert batches(epoch=1) != first
    with pytest.raises(DataError, match="has no room for replayed structures"):
        EpochLoader(own, 1, seed=3, replay=other, replay_fraction=0.5)
    with pytest.raises(DataError, match=r"has 7 structures, but 8 are mixed into each batch of 16: add structures"):
        EpochLoader(own, 16, seed=3, replay=other, replay_fraction=0.5)


def test_replay_keeps_what_the_parent_knew(shifted, parent, tmp_path):
    """Labels by the initial model: their energies move with the references, their forces stay the parent's."""
    write(tmp_path / "old.xyz", [a.copy() for a in emt_atoms(6, seed=21)])
    replay = {"files": str(tmp_path / "old.xyz"), "labelled_by": "init", "fraction": 0.5}
    start = start_of(config(shifted, parent, tmp_path, {"replay": replay}, run={"dtype": "float64"}))
    for sample in start.replay:
        found = start.potential(sample.graph, stress=True)
        torch.testing.assert_close(found["energy"].detach(), sample.energy, atol=1e-9, rtol=0)
        torch.testing.assert_close(found["forces"], sample.forces, atol=1e-12, rtol=0)
        torch.testing.assert_close(found["stress"], sample.stress, atol=1e-12, rtol=0)


def test_a_stopped_run_with_replay_goes_on_as_if_it_had_not_stopped(shifted, parent, tmp_path):
    replay = {"files": str(shifted), "fraction": 0.5, "num_structures": 5}
    options = {"finetune": {"replay": replay, "freeze": ["embedding"]}, "schedule": {"name": "constant"}}
    whole = train(config(shifted, parent, tmp_path / "whole", **options, run={"max_epochs": 4}), quiet=True)
    for epochs in (2, 4):
        parts = train(config(shifted, parent, tmp_path / "parts", **options, run={"max_epochs": epochs}), quiet=True)
    expected = load_model(whole.model_file).potential.state_dict()
    found = load_model(parts.model_file).potential.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    changed = {**options, "finetune": {"replay": {**replay, "num_structures": 4}}}
    with pytest.raises(CheckpointError):
        train(config(shifted, parent, tmp_path / "parts", **changed, run={"max_epochs": 5}), quiet=True)


@pytest.mark.parametrize("minutes", [0.06, 0.12])
def test_stopped_within_epochs_it_goes_on_with_the_same_replay(shifted, parent, tmp_path, monkeypatch, minutes):
    """Labels by the initial model, of which no bit may change from one launch to the next; some parts frozen."""
    write(tmp_path / "old.xyz", [a.copy() for a in emt_atoms(6, seed=21)])
    replay = {"files": str(tmp_path / "old.xyz"), "labelled_by": "init", "weights": {"energy": 0.0, "forces": 3.0}}
    options = {"finetune": {"replay": replay, "freeze": ["embedding", "radial"]}, "optimizer": {"name": "muon"}}
    whole = train(config(shifted, parent, tmp_path / "whole", **options), quiet=True)
    monkeypatch.setattr(callbacks, "time", CountingClock())
    limits = {"checkpoint_minutes": 0.0001, "max_minutes": minutes}
    launches, parts = 0, None
    while parts is None or parts.stopped:
        parts = train(config(shifted, parent, tmp_path / "parts", **options, run=limits), quiet=True)
        launches += 1
        assert launches < 100
    assert launches > 3
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    expected, found = (load_model(run.model_file) for run in (whole, parts))
    for name, value in expected.potential.state_dict().items():
        assert torch.equal(value, found.potential.state_dict()[name]), name
    assert found.card.training["replay"] == {"structures": 6, "labelled_by": "init"}


NO_SPLITS = Splits([], [], [], [], {})


def test_a_run_may_continue_where_the_initial_model_rounds_otherwise(shifted, parent, tmp_path):
    """The fingerprint is of what was given, not of the labels that were computed of it."""
    files = tmp_path / "old.xyz"
    write(files, emt_atoms(6, seed=21))

    def fingerprints(labelled_by):
        replay = {"files": str(files), "labelled_by": labelled_by}
        start = start_of(config(shifted, parent, tmp_path, {"replay": replay}))
        first = make_fingerprint(start, NO_SPLITS, {})
        for sample in start.replay:
            sample.forces.mul_(1 + 1e-6)
        return first, make_fingerprint(start, NO_SPLITS, {})

    by_init, by_files = fingerprints("init"), fingerprints("files")
    assert len({*by_init, *by_files}) == 2
    atoms = emt_atoms(6, seed=21)
    atoms[3].calc.results["energy"] += 1e-3
    write(files, atoms)
    assert fingerprints("init")[0] == by_init[0]
    assert fingerprints("files")[0] != by_files[0]
    atoms[3].positions[0, 0] += 1e-3
    write(files, atoms)
    assert fingerprints("init")[0] != by_init[0]


def test_structures_without_labels_and_md17_files_are_labelled_by_the_initial_model(shifted, parent, tmp_path):
    atoms = emt_atoms(5, seed=3)
    for a in atoms:
        a.pbc, a.cell = False, None
    write(tmp_path / "bare.xyz", [Atoms(a.symbols, a.positions) for a in atoms])
    arrays = {"nuclear_charges": atoms[0].numbers, "energies": np.zeros(3), "forces": np.zeros((3, 4, 3))}
    np.savez(tmp_path / "md17.npz", coords=[a.positions for a in atoms[::2]], **arrays)
    files = [str(tmp_path / name) for name in ("bare.xyz", "md17.npz")]
    replay = {"files": files, "labelled_by": "init"}
    start = start_of(config(shifted, parent, tmp_path, {"replay": replay}, run={"dtype": "float64"}))
    assert len(start.replay) == 8
    for sample in start.replay:
        torch.testing.assert_close(start.potential(sample.graph)["forces"], sample.forces, atol=1e-12, rtol=0)
        assert not sample.has_stress.any()
    assert "2 of 4 in each batch from 8 replayed structures; starting from model" in summary(
        start, make_splits(config(shifted, parent, tmp_path).data)
    )


def test_what_the_initial_model_keeps_fixed_stays_fixed(shifted, tmp_path):
    """Wave numbers that are no parameters of the parent do not become some."""
    architecture = {**SMALL, "species": ["Cu", "Au"], "trainable_radial": False, "avg_num_neighbors": None}
    potential = Potential(PotentialConfig.parse({"architecture": architecture}))
    path = tmp_path / "fixed.safetensors"
    save_model(path, potential, ModelCard(name="fixed"))
    settings = config(shifted, path, tmp_path / "run", optimizer={"name": "adamw", "lr": 0.01, "weight_decay": 0.1})
    assert "frozen" in summary(start_of(settings), make_splits(settings.data))
    tuned = load_model(train(settings, quiet=True).model_file).potential
    assert torch.equal(tuned.network.basis.wave_numbers.double(), potential.network.basis.wave_numbers.float().double())
    assert not torch.equal(tuned.network.embedding, potential.network.embedding.float())
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        start_of(config(shifted, path, tmp_path, {"freeze": ["embedding", "layers", "readout"]}))


def test_elements_that_nothing_taught_may_be_left_out(shifted, parent, tmp_path):
    """A parent of copper and gold, trained on copper alone; the finished run may be written again either way."""
    copper = [atoms for atoms in read(shifted, ":") if set(atoms.symbols) == {"Cu"}]
    copper += [atoms.copy() for atoms in emt_atoms(8, seed=3)]
    for atoms in copper:
        atoms.symbols[:] = "Cu"
        atoms.calc = EMT()
        atoms.get_forces(), atoms.get_stress()
    write(tmp_path / "copper.xyz", copper)
    whole = train(config(tmp_path / "copper.xyz", parent, tmp_path / "run"), quiet=True)
    before = load_model(whole.model_file).potential
    again = train(config(tmp_path / "copper.xyz", parent, tmp_path / "run", {"elements": "trained"}), quiet=True)
    loaded = load_model(again.model_file)
    assert again.record["steps"] == whole.record["steps"]
    assert (before.species, loaded.potential.species) == (("Cu", "Au"), ("Cu",))
    assert loaded.card.training["parameters"] < load_model(parent).card.training["parameters"]
    atoms = copper[0]
    graph = atoms_to_graph(atoms, before.cutoff)
    torch.testing.assert_close(loaded.potential(graph)["forces"], before(graph)["forces"], rtol=1e-4, atol=1e-6)
    replay = {"files": str(shifted), "num_structures": 3, "fraction": 0.3, "labelled_by": "init"}
    finetune = {"elements": "trained", "replay": replay}
    replayed = train(config(tmp_path / "copper.xyz", parent, tmp_path / "other", finetune), quiet=True)
    assert load_model(replayed.model_file).potential.species == ("Cu", "Au")


def test_mistakes_are_named(shifted, parent, tmp_path):
    with pytest.raises(ConfigError, match=r"no part is called 'layer0': choose from embedding, .*layers\.0"):
        start_of(config(shifted, parent, tmp_path, {"freeze": ["layer0"]}))
    everything = ["embedding", "basis", "layers", "readout"]
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        start_of(config(shifted, parent, tmp_path, {"freeze": everything}))
    with pytest.raises(ConfigError, match="brings its own network: leave out"):
        config(shifted, parent, tmp_path, model={"architecture": {"cutoff": 4.0}})
    with pytest.raises(ConfigError, match=r"data\.references has no meaning with init"):
        config(shifted, parent, tmp_path, more_data={"references": "none"})
    small = small_config(shifted, tmp_path).model_dump(mode="json")
    with pytest.raises(ConfigError, match="init names none"):
        TrainConfig.parse({**small, "finetune": {"freeze": ["embedding"]}})
    atoms = emt_atoms(6)
    atoms[0].symbols[0] = "Ag"
    write(tmp_path / "silver.xyz", atoms)
    with pytest.raises(DataError, match=r"the data has Ag, which .* does not know: choose another model to start from"):
        start_of(config(tmp_path / "silver.xyz", parent, tmp_path))
    replays = {
        "no such file": {"files": "absent.xyz"},
        "no such file .*": {"files": "absent.xyz", "labelled_by": "init"},
        "no replayed structure has stress": {"files": str(tmp_path / "bare.xyz"), "weights": {"stress": 1.0}},
        r"finetune\.replay has Ag, which model does not know": {"files": str(tmp_path / "silver.xyz")},
    }
    for a in (bare := emt_atoms(6)):
        a.calc.results.pop("stress")
    write(tmp_path / "bare.xyz", bare)
    for message, replay in replays.items():
        with pytest.raises(DataError, match=message):
            start_of(config(shifted, parent, tmp_path, {"replay": replay}))
    zeros = dict.fromkeys(("energy", "forces", "stress"), 0.0)
    with pytest.raises(ConfigError, match="every weight of the replayed structures is zero"):
        config(shifted, parent, tmp_path, {"replay": {"files": "x", "weights": zeros}})
    with pytest.raises(ConfigError, match="optimizer: Input should be a valid dictionary"):
        config(shifted, parent, tmp_path, optimizer=3)
