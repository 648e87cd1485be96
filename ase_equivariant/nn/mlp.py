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
        return self.last(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:
        """What the last, linear layer receives: the input itself, if it is the only one."""
        function, gain = ACTIVATIONS[self.activation], 1.0
        for weight in list(self.weights)[:-1]:
            x = function(x @ (weight * (gain / math.sqrt(weight.shape[0]))))
            gain = SECOND_MOMENT[self.activation]
        return x

    def last(self, x: Tensor) -> Tensor:
        """The last layer."""
        gain = SECOND_MOMENT[self.activation] if len(self.weights) > 1 else 1.0
        weight = self.weights[-1]
        return x @ (weight * (gain / math.sqrt(weight.shape[0])))
