"""The learning rate's course."""

from __future__ import annotations

import math
from typing import Any

from ase_equivariant.training.fit_config import ScheduleConfig


class Schedule:
    """Factor on the learning rate: a warm-up times a shape.

    Parameters
    ----------
    config : ScheduleConfig
        Shape.
    steps_per_epoch : int
        Optimizer steps in an epoch.
    max_epochs : int
        Length where the configuration leaves it open.
    """

    def __init__(self, config: ScheduleConfig, steps_per_epoch: int, max_epochs: int):
        self.config = config
        self.warmup_steps = config.warmup_epochs * steps_per_epoch
        self.total_steps = (config.epochs or max_epochs) * steps_per_epoch
        self.plateau, self.best, self.since = 1.0, math.inf, -1

    def factor(self, step: int) -> float:
        """The factor for the optimizer step number ``step``, from 0."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps > 0 else 1.0
        return warmup * self._shape(step)

    def _shape(self, step: int) -> float:
        name, final = self.config.name, self.config.final_factor
        if name == "constant":
            return 1.0
        if name == "plateau":
            return self.plateau
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        progress = min(max((step - self.warmup_steps) / decay_steps, 0.0), 1.0)
        falling = 1 - progress if name == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
        return final + (1 - final) * falling

    def on_validation(self, loss: float, epoch: int) -> None:
        """Tell a "plateau" schedule the validation loss at the end of an epoch, from 0."""
        if loss < self.best:
            self.best, self.since = loss, epoch
        elif epoch - self.since >= self.config.plateau_patience:
            self.plateau = max(self.plateau * self.config.plateau_factor, self.config.final_factor)
            self.since = epoch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        return {"plateau": self.plateau, "best": self.best, "since": self.since}

    def load_state_dict(self, state: dict[str, Any], epoch: int) -> None:
        """Continue from :meth:`state_dict` in an epoch; earlier versions counted validations, taken for epochs here."""
        self.plateau, self.best = state["plateau"], state["best"]
        self.since = state["since"] if "since" in state else epoch - 1 - state["waited"]
