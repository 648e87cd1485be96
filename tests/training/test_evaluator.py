"""Compiled derivatives in training: used where there are any, checked, and given up loudly if they are wrong."""

from dataclasses import replace

import pytest
import torch
from emt_data import SMALL, emt_frames, small_config

from ase_equivariant.kernels import network as native
from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.training.dataset import Batch, make_samples
from ase_equivariant.training.evaluator import Evaluator
from ase_equivariant.training.fit_config import LossConfig
from ase_equivariant.training.loader import EpochLoader
from ase_equivariant.training.loss import Loss
from ase_equivariant.training.module import TrainingModule
from ase_equivariant.training.run import train

pytestmark = pytest.mark.skipif(native.best_level() < 0, reason="no compiled kernels: there is no C++ compiler")
check = TrainingModule._check
LOSS = Loss(LossConfig.parse({"stress": {"weight": 1.0}}))


def potential(**settings):
    architecture = {**SMALL, "species": ["C", "O", "Cu", "Au"], **settings}
    return Potential(PotentialConfig.parse({"architecture": architecture}))


@pytest.fixture
def batch():
    return Batch.collate(make_samples(emt_frames(3), potential().cutoff, torch.float64))


def test_agreement_keeps_compiled_code(batch, recwarn):
    evaluator = Evaluator(potential(), compiled=True)
    evaluator.check(batch, LOSS)
    assert evaluator.compiled is not None
    assert not recwarn


def test_no_error_to_speak_of_is_no_disagreement(recwarn):
    made = potential().to(torch.float32)
    batch = Batch.collate(make_samples(emt_frames(3), made.cutoff, torch.float32))
    labels = made(batch.graph, stress=True)
    batch = replace(batch, energy=labels["energy"], forces=labels["forces"], stress=labels["stress"])
    evaluator = Evaluator(made, compiled=True)
    evaluator.check(batch, LOSS)
    assert evaluator.compiled is not None
    assert not recwarn


def test_wrong_compiled_code_is_given_up_with_a_warning(batch):
    evaluator = Evaluator(potential(), compiled=True)
    evaluator.compiled._layout.inverse_factor.mul_(1.05)  # as a factor forgotten in a derivative would
    with pytest.warns(RuntimeWarning, match="differ from autograd's"):
        evaluator.check(batch, LOSS)
    assert evaluator.compiled is None
    assert evaluator(batch, forces=True, stress=True)["energy"].requires_grad


def test_auto_is_compiled_where_it_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    frames = emt_frames(8)
    config = small_config("unused", "unused", run={"device": "auto"})
    loaders = [EpochLoader(make_samples(frames, 3.5, torch.float32), 4, 0) for _ in range(2)]
    module = TrainingModule(potential().to(torch.float32), config, *loaders)
    assert module.evaluator.compiled is not None


def test_compiled_code_is_looked_at_ever_more_rarely(emt_file, tmp_path, monkeypatch):
    epochs = []
    monkeypatch.setattr(TrainingModule, "_check", lambda self, batch: (epochs.append(self.epoch), check(self, batch)))
    train(small_config(emt_file, tmp_path / "run", run={"max_epochs": 8}), quiet=True)
    assert epochs == [0, 1, 3, 7]


def gvp():
    return Potential(
        PotentialConfig.parse({"architecture": {"name": "gvp", "species": ["C", "O", "Cu", "Au"], "cutoff": 3.5}})
    )


@pytest.mark.parametrize("make", [lambda: potential(norm="rms"), gvp], ids=["rms norm", "gvp"])
def test_what_has_no_compiled_code_is_trained_by_autograd(batch, make):
    evaluator = Evaluator(make(), compiled=True)
    assert evaluator.compiled is None
    evaluator.check(batch, LOSS)
    assert evaluator(batch, forces=True, stress=False)["forces"].requires_grad
