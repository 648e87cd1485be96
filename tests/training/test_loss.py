"""The loss against its definition, and masks for labels that are missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from emt_data import SMALL, emt_frames

from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.training.dataset import Batch, make_samples, to_batch
from ase_equivariant.training.evaluator import Evaluator
from ase_equivariant.training.finetune_config import ReplayWeights
from ase_equivariant.training.fit_config import LossConfig
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.loss import ErrorSums, Loss, compute_errors

ALL_TERMS = {"energy": {"weight": 2.0}, "forces": {"weight": 3.0}, "stress": {"weight": 5.0}}


@pytest.fixture
def potential():
    return Potential(PotentialConfig.parse({"architecture": {**SMALL, "species": ["C", "O", "Cu", "Au"]}}))


def loss_of(potential, batch, config, replay=None):
    loss = Loss(LossConfig.parse(config), replay)
    prediction = Evaluator(potential, compiled=False)(batch, forces=loss.needs_forces, stress=loss.needs_stress)
    return loss.total(loss.sums(compute_errors(prediction, batch), batch))


def with_kind(kind, delta=0.05):
    return {name: {**term, "kind": kind, "delta": delta} for name, term in ALL_TERMS.items()}


SHAPES = {
    "mse": lambda e: (e**2).mean(),
    "mae": lambda e: np.abs(e).mean(),
    "huber": lambda e: np.where(np.abs(e) < 0.05, e**2 / 2, 0.05 * (np.abs(e) - 0.025)).mean(),
    "norm": lambda e: np.linalg.norm(e.reshape(len(e), -1), axis=1).mean(),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_loss_is_what_it_says(potential, kind):
    frames = emt_frames(3)
    batch = Batch.collate([to_batch(frame, potential.cutoff, torch.float64) for frame in frames])
    prediction = potential(batch.graph, stress=True)
    energy = (prediction["energy"].numpy() - [f.energy for f in frames]) / 4
    forces = prediction["forces"].numpy() - np.concatenate([f.forces for f in frames])
    stress = prediction["stress"].numpy() - np.array([f.stress for f in frames])
    expected = sum(w * SHAPES[kind](e) for w, e in zip((2, 3, 5), (energy, forces, stress), strict=True))
    assert loss_of(potential, batch, with_kind(kind)).item() == pytest.approx(expected, rel=1e-10)


def test_total_energy_term(potential):
    frames = emt_frames(2)
    batch = Batch.collate([to_batch(frame, potential.cutoff, torch.float64) for frame in frames])
    terms = {"forces": {"weight": 0}, "energy": {"per_atom": False}}
    per_atom = {"forces": {"weight": 0}}
    ratio = (loss_of(potential, batch, terms) / loss_of(potential, batch, per_atom)).item()
    assert ratio == pytest.approx(16, rel=1e-10)  # four atoms each


@pytest.mark.parametrize("kind", SHAPES)
def test_missing_labels_change_nothing(potential, kind):
    """A molecule without cell, forces or stress adds to the energy's term alone; gradients stay finite."""
    crystals = emt_frames(2)
    molecule = Frame(Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]]), energy=-3.0)
    bare = Frame(Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.3]]), forces=np.array([[0, 0, 1.0], [0, 0, -1.0]]))
    as_batch = {
        name: to_batch(f, potential.cutoff, torch.float64) for name, f in (("molecule", molecule), ("bare", bare))
    }
    crystal_batches = [to_batch(frame, potential.cutoff, torch.float64) for frame in crystals]
    mixed = Batch.collate([*crystal_batches, *as_batch.values()])
    total = loss_of(potential, mixed, with_kind(kind))
    total.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in potential.parameters() if p.grad is not None)

    def term(name, samples):
        weights = {other: {"weight": 0} for other in ALL_TERMS if other != name}
        return loss_of(potential, Batch.collate(samples), {**weights, name: with_kind(kind)[name]}).item()

    expected = (
        term("energy", [*crystal_batches, as_batch["molecule"]])
        + term("forces", [*crystal_batches, as_batch["bare"]])
        + term("stress", crystal_batches)
    )
    assert total.item() == pytest.approx(expected, rel=1e-10)


def test_a_batch_without_any_label_of_a_term(potential):
    molecule = to_batch(
        Frame(Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]]), energy=-3.0), potential.cutoff, torch.float64
    )
    assert np.isfinite(loss_of(potential, molecule, ALL_TERMS).item())


def test_replayed_structures_have_weights_of_their_own(potential):
    """Each structure's errors times its weights, over the labels of all."""
    samples = make_samples(emt_frames(5), potential.cutoff, torch.float64)
    old = torch.tensor([True])
    samples[3:] = [replace(sample, replayed=old) for sample in samples[3:]]
    batch = Batch.collate(samples)
    prediction = potential(batch.graph, stress=True)
    energy = ((prediction["energy"] - batch.energy) / 4).square().numpy()
    forces = torch.linalg.vector_norm(prediction["forces"] - batch.forces, dim=1).numpy().reshape(5, 4)
    stress = (prediction["stress"] - batch.stress).square().numpy()
    terms = {"energy": {"weight": 2.0}, "forces": {"weight": 3.0, "kind": "norm"}, "stress": {"weight": 0.0}}

    def found(replay):
        return loss_of(potential, batch, terms, None if replay is None else ReplayWeights(**replay)).item()

    own = 2 * energy[:3].sum() / 5 + 3 * forces[:3].sum() / 20
    assert found({"energy": 0.0, "forces": 7.0}) == pytest.approx(own + 7 * forces[3:].sum() / 20, rel=1e-10)
    alike = own + 2 * energy[3:].sum() / 5 + 3 * forces[3:].sum() / 20
    assert found({}) == found(None) == pytest.approx(alike, rel=1e-10)
    assert found({"stress": 4.0}) == pytest.approx(alike + 4 * stress[3:].sum() / 45, rel=1e-10)


def test_error_sums_do_not_depend_on_batches(potential):
    samples = make_samples(emt_frames(5), potential.cutoff, torch.float64)

    def metrics(size):
        sums = ErrorSums()
        for start in range(0, 5, size):
            batch = Batch.collate(samples[start : start + size])
            sums.add(compute_errors(potential(batch.graph, stress=True), batch))
        return sums.metrics()

    assert metrics(1) == pytest.approx(metrics(5), rel=1e-10)
    assert set(metrics(2)) == {
        f"{q}_{k}" for q in ("energy", "energy_per_atom", "forces", "stress") for k in ("mae", "rmse")
    }
