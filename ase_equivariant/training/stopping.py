"""How a run ends before its time: cleanly, between two steps, in all of its processes at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist

TIME_IS_UP = 1  # beside numbers of signals, of which SIGHUP, which is not taken, is 1


class RunStopped(Exception):
    """The run ends early and cleanly, its checkpoint is written; the message says why."""


class ProcessLostError(RuntimeError):
    """Another process of the run is gone, so that this one cannot go on."""


class StopOnSignal(pl.Callback):
    """Turns the first SIGINT or SIGTERM into a wish to stop between two steps; the second acts as usual.

    Installed when training starts, over Lightning's own handler, which would end the process in the middle
    of a validation. A wish of one process, which may be the only one that was asked, becomes all others' too:
    one that left by itself would keep the rest waiting.
    """

    def __init__(self) -> None:
        self.wish = 0
        self.previous: dict[int, Any] = {}
        self.group: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals; Lightning puts the original handlers back when it ends."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._note)
        if trainer.world_size > 1:
            self.group = dist.new_group(backend="gloo")  # through memory: an accelerator need not wait for it

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wish = number
        signal.signal(number, self.previous[number])

    def agree(self, max_minutes: float | None, minutes: float) -> str | None:
        """Why all processes stop now, None if they go on. To be called by all of them at the same place.

        Parameters
        ----------
        max_minutes : float or None
            Limit of time.
        minutes : float
            Time that this process has taken.
        """
        wish = self.wish
        if not wish and max_minutes is not None and minutes >= max_minutes:
            wish = TIME_IS_UP
        if self.group is not None:
            shared = torch.tensor(wish)
            dist.all_reduce(shared, dist.ReduceOp.MAX, group=self.group)
            wish = int(shared)
        if not wish:
            return None
        return f"run.max_minutes = {max_minutes:g} reached" if wish == TIME_IS_UP else _name(wish)


def _name(number: int) -> str:
    return f"received {signal.Signals(number).name}"
