"""A perceptron on invariant scalars."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ase_equivariant.nn.activations import ACTIVATIONS, SECOND_MOMENT, ActivationName


class ScalarMLP(nn.Module):
    """Scalars to scalars: a perceptron without biases.

    Without biases the output vanishes wherever the input does: radial weights, and with
    them the messages, go smoothly to zero at the cutoff. Weights start standard normal; each layer divides by √fan-in
    and scales its activation to unit second moment.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, hidden widths, number of outputs.
    """

    def __init__(self, sizes: Sequence[int], activation: ActivationName = "silu"):
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(fan_in, fan_out, dtype=torch.float64))
            for fan_in, fan_out in itertools.pairwise(sizes)
        )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, sizes[0]) to (…, sizes[-1])."""
        function, gain = ACTIVATIONS[self.activation], 1.0
        for k, weight in enumerate(self.weights):
            x = x @ (weight * (gain / math.sqrt(weight.shape[0])))
            if k + 1 < len(self.weights):
                x, gain = function(x), SECOND_MOMENT[self.activation]
        return x
