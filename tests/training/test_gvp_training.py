"""Geometric vector perceptrons are trained, go on after a stop, and are fine-tuned as NequIP is."""

import csv

import pytest
import torch
from ase.io import write
from emt_data import emt_atoms

from ase_equivariant.config import ConfigError
from ase_equivariant.io.model_file import load_model
from ase_equivariant.training.build import build_start, summary
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.run import train
from ase_equivariant.training.splits import make_splits

GVP = {"name": "gvp", "cutoff": 3.5, "num_layers": 2, "num_scalars": 8, "num_vectors": 4, "edge_scalars": 4}


def config(data, folder, **sections):
    values = {
        "data": {"train": str(data), "validation": 4},
        "model": {"architecture": GVP},
        "optimizer": {"name": "muon", "lr": 0.02},
        "schedule": {"name": "constant"},
        "run": {"folder": str(folder), "batch_size": 4, "threads": 1, "ema_decay": 0.9, **sections.pop("run", {})},
        **sections,
    }
    return TrainConfig.parse({name: value for name, value in values.items() if value is not None})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "emt.xyz"
    write(path, emt_atoms(40))
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train(config(data, tmp_path_factory.mktemp("run"), run={"max_epochs": 20}), quiet=True)


def test_a_run_learns(trained):
    with open(trained.model_file.parent / "metrics.csv", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    for name in ("forces", "energy_per_atom"):
        first, last = (float(table[k][f"val_{name}_rmse"]) for k in (0, -1))
        assert last < 0.5 * first, name
    architecture = load_model(trained.model_file).potential.config.architecture
    assert architecture.name == "gvp"
    assert architecture.species == ("Cu", "Au")
    assert architecture.avg_num_neighbors > 10


def test_a_stopped_run_goes_on_as_if_it_had_not(data, tmp_path):
    whole = train(config(data, tmp_path / "whole", run={"max_epochs": 4}), quiet=True)
    for epochs in (2, 4):
        parts = train(config(data, tmp_path / "parts", run={"max_epochs": epochs}), quiet=True)
    one, two = (load_model(result.model_file).potential.state_dict() for result in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_fine_tuning_keeps_what_is_frozen(trained, data, tmp_path):
    settings = {"init": str(trained.model_file), "model": None, "optimizer": {"lr": 0.001}, "run": {"max_epochs": 2}}
    parts = ["embedding", "basis", "layers.0"]
    tuned = train(config(data, tmp_path / "tuned", finetune={"freeze": parts}, **settings), quiet=True)
    before, after = (load_model(result.model_file).potential.state_dict() for result in (trained, tuned))
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if name.startswith(("network.embedding", "network.basis", "network.layers.0"))}
    assert frozen <= same
    assert not any(name.startswith("network.layers.1") for name in same)
    refused = config(data, tmp_path, finetune={"freeze": ["radial"]}, **{**settings, "run": {}})
    splits = make_splits(refused.data)
    with pytest.raises(ConfigError, match=r"no part is called 'radial': choose from embedding, basis, .*layers"):
        build_start(refused, splits)


def test_summary(data, tmp_path):
    settings = config(data, tmp_path)
    splits = make_splits(settings.data)
    start = build_start(settings, splits)
    assert "species Cu Au; " in summary(start, splits)


def test_faults_are_named_as_in_the_file(data, tmp_path):
    with pytest.raises(
        ConfigError, match=r"^model\.architecture\.num_vector: unknown key; did you mean 'num_vectors'\?$"
    ):
        config(data, tmp_path, model={"architecture": {**GVP, "num_vector": 4}})
