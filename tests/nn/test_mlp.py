"""The perceptron and its activation constants are e3nn's."""

from __future__ import annotations

import pytest
import torch
from e3nn.math import normalize2mom
from e3nn_reference import IGNORE_TORCHSCRIPT, float64_default, mlp, relative

from ase_equivariant.nn.activations import ACTIVATIONS, SECOND_MOMENT
from ase_equivariant.nn.mlp import ScalarMLP

pytestmark = pytest.mark.filterwarnings(IGNORE_TORCHSCRIPT)


@pytest.mark.parametrize("sizes", [[5, 3], [8, 16, 4], [4, 8, 8, 7]])
def test_mlp_is_fully_connected_net(sizes, check):
    ours = ScalarMLP(sizes)
    with float64_default():
        theirs = mlp(ours)
    x = torch.randn(9, sizes[0], dtype=torch.float64)
    check("ScalarMLP = e3nn.nn.FullyConnectedNet", relative(ours(x), theirs(x)), 1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_second_moments_are_those_of_e3nn(name, check):
    check("SECOND_MOMENT = normalize2mom", abs(SECOND_MOMENT[name] - normalize2mom(ACTIVATIONS[name]).cst), 1e-13)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_second_moments_are_nearly_one(name):
    """By quadrature, instead of e3nn's million random draws: its constants are good to some in 10³."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5
    moment = torch.trapezoid((SECOND_MOMENT[name] * ACTIVATIONS[name](z)).square() * weight, z)
    assert float(moment) == pytest.approx(1.0, abs=5e-3)


def test_zero_goes_to_zero():
    """Without biases; messages at the cutoff depend on it."""
    assert ScalarMLP([4, 8, 3])(torch.zeros(2, 4, dtype=torch.float64)).eq(0).all()
