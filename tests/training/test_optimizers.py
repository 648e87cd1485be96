"""Muon, schedules and the average of weights against their definitions."""

import copy
import math

import pytest
import torch
from torch import nn

from ase_equivariant.training.ema import WeightAverage
from ase_equivariant.training.fit_config import OptimizerConfig, ScheduleConfig
from ase_equivariant.training.optimizers import Muon, build_optimizer, orthogonalize
from ase_equivariant.training.schedules import Schedule


@pytest.mark.parametrize("shape", [(16, 16), (3, 8, 32), (40, 12), (2, 3, 5, 7)])
def test_orthogonalize_keeps_directions_and_evens_singular_values(shape):
    matrices = torch.randn(shape, dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices)
    core = u.mT @ result @ vt.mT  # diagonal if the singular vectors are the same
    diagonal = core.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(core, torch.diag_embed(diagonal), atol=1e-8, rtol=0)
    large = s / s.norm(dim=-1, keepdim=True) > 0.02  # five iterations do not lift what is next to nothing
    assert float(diagonal[large].min()) > 0.3
    assert float(diagonal.max()) < 1.3
    wide = diagonal[s / s.norm(dim=-1, keepdim=True) > 0.1]
    assert float(wide.min()) > 0.6


@pytest.mark.parametrize("shape", [(4, 64, 256), (4, 64, 64), (2, 300, 64)])
def test_orthogonalize_bears_matrices_of_low_rank(shape):
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(*shape[:2], 3, generator=generator)
    found = orthogonalize(1e-3 * left @ torch.randn(shape[0], 3, shape[2], generator=generator))
    assert torch.linalg.matrix_norm(found, ord=2).max() < 1.3


def test_a_stack_of_matrices_is_treated_one_by_one():
    stack = torch.randn(4, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(orthogonalize(stack), torch.stack([orthogonalize(m) for m in stack]))


def test_zero_gradient_gives_zero_step():
    assert not orthogonalize(torch.zeros(3, 4)).any()


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(3, 8))
        self.per_species = nn.Parameter(torch.randn(3, 8, 8))
        self.matrix = nn.Parameter(torch.randn(8, 16))
        self.column = nn.Parameter(torch.randn(16, 1))
        self.bias = nn.Parameter(torch.randn(16))


def test_muon_takes_maps_and_adamw_the_rest():
    optimizer = Muon(Mixed().named_parameters(), lr=0.1)
    shapes = {group["algorithm"]: sorted(tuple(p.shape) for p in group["params"]) for group in optimizer.param_groups}
    assert shapes == {"muon": [(3, 8, 8), (8, 16)], "adamw": [(3, 8), (16,), (16, 1)]}


def test_muon_step_is_the_formula():
    model = Mixed()
    optimizer = Muon(model.named_parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    weight, momentum = model.matrix.detach().clone(), torch.zeros(8, 16)
    for _ in range(3):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        gradient = model.matrix.grad.clone()
        optimizer.step()
        momentum = 0.9 * momentum + gradient
        step = 0.2 * math.sqrt(16) * orthogonalize(gradient + 0.9 * momentum)
        weight = weight * (1 - 0.1 * 0.01) - 0.1 * step
        torch.testing.assert_close(model.matrix.detach(), weight)


def test_muons_adamw_is_pytorchs():
    """The vectors follow torch.optim.AdamW."""
    ours, theirs = Mixed(), Mixed()
    theirs.load_state_dict(ours.state_dict())
    muon = Muon(ours.named_parameters(), lr=0.05, weight_decay=0.1)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(4):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        muon.step()
        adamw.step()
    for name in ("embedding", "column", "bias"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_optimizers_continue_exactly_from_their_state(name):
    """Three steps, saved and loaded, and three more equal six."""
    gradients = [[torch.randn_like(p) for p in Mixed().parameters()] for _ in range(6)]

    def run(model, optimizer, steps):
        for step in steps:
            for p, g in zip(model.parameters(), gradients[step], strict=True):
                p.grad = g.clone()
            optimizer.step()

    config = OptimizerConfig(name=name, lr=0.1, weight_decay=0.01, amsgrad=name == "adam")
    whole = Mixed()
    start = copy.deepcopy(whole)
    run(whole, build_optimizer(config, whole), range(6))
    optimizer = build_optimizer(config, start)
    run(start, optimizer, range(3))
    again = build_optimizer(config, start)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(start, again, range(3, 6))
    for p, q in zip(whole.parameters(), start.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_optimizers_fit_a_linear_map(name):
    target, model = torch.randn(8, 16), nn.Linear(8, 16, bias=False)
    optimizer = build_optimizer(OptimizerConfig(name=name, lr=0.05), model)
    x = torch.randn(64, 8)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = (model(x) - x @ target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


# --- schedules ---------------------------------------------------------------------------


def schedule(**options):
    return Schedule(ScheduleConfig(**options), steps_per_epoch=10, max_epochs=100)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
def test_warmup_then_shape_then_end(name):
    s = schedule(name=name, warmup_epochs=2, final_factor=0.1)
    assert s.factor(0) == pytest.approx(0.05)
    assert s.factor(19) == pytest.approx(1.0)
    middle = {"constant": 1.0, "cosine": 0.55, "linear": 0.55}[name]
    end = 1.0 if name == "constant" else 0.1
    assert s.factor(20 + 490) == pytest.approx(middle)
    assert s.factor(1000) == s.factor(5000) == pytest.approx(end)


def test_cosine_falls_slowly_first():
    assert schedule(name="cosine", warmup_epochs=0).factor(100) > schedule(name="linear", warmup_epochs=0).factor(100)


def test_schedule_length_can_be_its_own():
    s = schedule(name="linear", warmup_epochs=0, epochs=10, final_factor=0.0)
    assert s.factor(50) == pytest.approx(0.5)


def test_plateau_waits_and_goes_on_from_its_state():
    s = schedule(name="plateau", warmup_epochs=0, plateau_factor=0.5, plateau_patience=2, final_factor=0.2)
    for epoch, loss in enumerate((1.0, 0.9, 0.95)):
        s.on_validation(loss, epoch)
    assert s.factor(0) == 1.0
    again = schedule(name="plateau", warmup_epochs=0, plateau_factor=0.5, plateau_patience=2, final_factor=0.2)
    again.load_state_dict(s.state_dict(), epoch=3)
    again.on_validation(0.91, epoch=3)
    assert again.factor(0) == 0.5
    for epoch in range(4, 14):
        again.on_validation(1.0, epoch)
    assert again.factor(0) == 0.2


def test_plateau_counts_epochs_however_seldom_they_are_validated():
    s = schedule(name="plateau", warmup_epochs=0, plateau_factor=0.5, plateau_patience=6)
    factors = []
    for epoch in range(4, 30, 5):  # the best at its first validation, epoch 4
        s.on_validation(1.0, epoch)
        factors.append(s.factor(0))
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_plateau_goes_on_from_a_state_of_earlier_versions():
    s = schedule(name="plateau", warmup_epochs=0, plateau_factor=0.5, plateau_patience=3)
    s.load_state_dict({"plateau": 0.5, "best": 1.0, "waited": 1}, epoch=7)
    s.on_validation(1.0, epoch=7)
    assert s.factor(0) == 0.5
    s.on_validation(1.0, epoch=8)
    assert s.factor(0) == 0.25


# --- average of weights --------------------------------------------------------------------


def test_average_is_the_recursion_and_swaps_back():
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.9)
    expected = model.weight.detach().clone()
    for t in range(20):
        with torch.no_grad():
            model.weight.add_(torch.randn_like(model.weight))
        average.update()
        d = min(0.9, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * model.weight.detach()
    trained = model.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), expected)
        assert not torch.allclose(model.weight, trained)
    assert torch.equal(model.weight, trained)


def test_no_decay_means_the_weights_themselves():
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.0)
    with torch.no_grad():
        model.weight.mul_(2)
    average.update()
    assert torch.equal(average.averages[0], model.weight)


def test_muon_leaves_matrices_without_gradient_where_they_are():
    """A species that is in one batch only: momentum that is almost gone must not be made whole steps."""
    stack = nn.Parameter(torch.randn(2, 8, 8))
    optimizer = Muon([("per_species", stack)], lr=0.1)
    stack.grad = torch.randn(2, 8, 8)
    optimizer.step()
    absent, present = stack.detach().clone()
    for _ in range(20):
        stack.grad = torch.stack([torch.zeros(8, 8), torch.randn(8, 8)])
        optimizer.step()
    assert torch.equal(stack[0], absent)
    assert (stack[1] - present).norm() > 0.1
