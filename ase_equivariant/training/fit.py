"""The part of a run that Lightning does."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from ase_equivariant.potential import Potential
from ase_equivariant.training.callbacks import ProgressReporter, RunRecorder, RunStopped
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import Batch, EpochLoader
from ase_equivariant.training.logs import MetricsLog
from ase_equivariant.training.module import TrainingModule


@dataclass(frozen=True)
class FitOutcome:
    """How the fit ended; the potential has the weights of the best validation if ``has_best``.

    ``record`` has the number of epochs, the best epoch and its loss, and the training time in seconds.
    """

    stopped: str | None
    has_best: bool
    record: dict[str, Any]


def fit(
    config: TrainConfig,
    potential: Potential,
    train: Sequence[Batch],
    validation: Sequence[Batch],
    *,
    folder: Path,
    log: MetricsLog,
    state: dict[str, Any] | None,
    fingerprint: str,
    on_best: Callable[[Potential, dict[str, Any]], None],
    progress: bool,
) -> FitOutcome:
    """Train ``potential`` until the configured end, from ``state`` if there is one.

    ``on_best`` receives, at each checkpoint, a potential with the best weights so far
    if they are new, and the record.
    """
    run = config.run
    with _quiet_lightning(), _signals_noted() as stop_reason:
        trainer = _trainer(config)
        rank, world = trainer.global_rank, trainer.world_size
        module = TrainingModule(
            potential,
            config,
            EpochLoader(train, run.batch_size, run.seed, rank, world),
            EpochLoader(validation, run.validation_batch_size, None, rank, world),
            state,
        )
        best_saved = -1 if state is None else state["best"]["epoch"]

        def on_checkpoint() -> None:
            nonlocal best_saved
            if module.best_epoch != best_saved:
                best_saved = module.best_epoch
                on_best(module.best_potential(), _record(module, recorder))

        seconds = state["seconds"] if state else 0.0
        recorder = RunRecorder(folder, log, fingerprint, seconds, stop_reason, on_checkpoint)
        trainer.callbacks.extend([recorder, ProgressReporter()] if progress else [recorder])
        stopped = None
        if not recorder.is_over(module):
            try:
                trainer.fit(module)
            except RunStopped as reason:
                stopped = str(reason)
    module.load_best()
    potential.to("cpu")
    return FitOutcome(stopped, bool(module.best_weights), _record(module, recorder))


def _trainer(config: TrainConfig) -> pl.Trainer:
    """A trainer that does nothing on the side: records and checkpoints are ours."""
    run = config.run
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(run.device, run.device),
        devices=run.devices,
        max_epochs=-1,  # counted by our recorder, across restarts
        gradient_clip_val=config.optimizer.gradient_clip,
        check_val_every_n_epoch=run.validate_every,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=False,  # forces are derivatives, in validation too
    )


def _record(module: TrainingModule, recorder: RunRecorder) -> dict[str, Any]:
    return {
        "epochs": module.epoch,
        "best_epoch": module.best_epoch + 1,
        "best_validation_loss": module.best_loss,
        "hours": round(recorder.seconds / 3600, 3),
    }


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice about accelerators, loggers and loaders, which does not fit what we do."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning(\.|$)")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _signals_noted() -> Iterator[Callable[[], str | None]]:
    """Turn the first SIGINT or SIGTERM into a request to stop between two steps; the second acts as usual."""
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    try:
        yield lambda: f"received {signal.Signals(received[0]).name}" if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
