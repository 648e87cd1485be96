"""Running mean of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average ``a ← d a + (1 − d) w`` with ``d = min(decay, (1 + t)/(10 + t))``.

    The rising d forgets the random start. ``decay = 0`` keeps the weights themselves.

    Parameters
    ----------
    model : nn.Module
        Its parameters are averaged; buffers are not.
    decay : float
        Weight of the past for large t.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.parameters = list(model.parameters())
        self.decay, self.steps = decay, 0
        self.averages = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimizer step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the averages for the length of a ``with`` block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            parameter.data, average.data = average.data, parameter.data

    def state_dict(self) -> dict[str, int | list[Tensor]]:
        """What a checkpoint must keep."""
        return {"steps": self.steps, "averages": self.averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, int | list[Tensor]]) -> None:
        """Continue from :meth:`state_dict`."""
        assert isinstance(state["steps"], int) and isinstance(state["averages"], list)  # noqa: PT018
        self.steps = state["steps"]
        for own, saved in zip(self.averages, state["averages"], strict=True):
            own.copy_(saved)
