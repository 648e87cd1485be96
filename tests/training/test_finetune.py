"""Starting from a trained model: frozen parts stay, references are refitted, replay mixes, runs go on."""

import numpy as np
import pytest
import torch
from ase.io import write
from emt_data import emt_atoms, emt_frames, small_config

from ase_equivariant.config import ConfigError
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.model_file import load_model
from ase_equivariant.training.build import build_start
from ase_equivariant.training.checkpoint import CheckpointError
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import EpochLoader, make_samples
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.finetune import frozen_parts
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.run import train
from ase_equivariant.training.splits import make_splits


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
    assert torch.equal(start.potential(graph)["energy"], original(graph)["energy"])
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
    card = load_model(result.model_file).card
    assert card.training["parent"]["sha256"] == load_model(parent).header.sha256


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
