"""The part of a run that Lightning does."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from ase_equivariant.potential import Potential
from ase_equivariant.training.callbacks import EpochProgress, RunKeeper, RunStopped, StopOnSignal, TensorBoardLog
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
    replay: Sequence[Batch] = (),
    *,
    folder: Path,
    log: MetricsLog,
    state: dict[str, Any] | None,
    fingerprint: str,
    on_best: Callable[[Potential, dict[str, Any]], None],
    progress: bool,
) -> FitOutcome:
    """Train ``potential`` until the configured end, from ``state`` if there is one.

    ``on_best`` receives, at each checkpoint, a copy of the potential with the best weights
    so far if they are new, and the record of the run.
    """
    run = config.run
    with _quiet_lightning():
        stop = StopOnSignal()
        keeper = RunKeeper(folder, log, fingerprint, on_best, stop, state["seconds"] if state else 0.0)
        callbacks: list[pl.Callback] = [stop, keeper]
        if progress:
            callbacks.append(EpochProgress())
        if run.tensorboard:
            callbacks.append(TensorBoardLog(folder / "tensorboard", state["epoch"] if state else 0))
        trainer = _trainer(config, callbacks)
        module = TrainingModule(
            potential,
            config,
            EpochLoader(
                train,
                run.batch_size,
                run.seed,
                trainer.global_rank,
                trainer.world_size,
                replay,
                config.finetune.replay.fraction if config.finetune.replay else 0.0,
            ),
            EpochLoader(validation, run.validation_batch_size),  # by every process, so that all know the best
            state,
        )
        # Validation every n-th epoch must fall on the same epochs as without a restart.
        counter: Any = trainer.fit_loop.epoch_progress.current
        counter.processed = counter.completed = module.epoch
        stopped = None
        if not module.is_over:
            try:
                trainer.fit(module)
            except RunStopped as reason:
                stopped = str(reason)
    module.load_best()
    potential.to("cpu")
    return FitOutcome(stopped, bool(module.best_weights), keeper.record(module))


def _trainer(config: TrainConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    """A trainer that does nothing on the side: records and checkpoints are ours."""
    run = config.run
    return pl.Trainer(
        accelerator={"cuda": "gpu"}.get(run.device, run.device),
        devices=run.devices,
        max_epochs=-1,  # the keeper ends the run
        callbacks=callbacks,
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


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice about accelerators, loggers and loaders, which does not fit what we do."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning(\.|$)")
            warnings.filterwarnings("ignore", message=".*treespec.*LeafSpec.*")  # Lightning's use of PyTorch's pytree
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
