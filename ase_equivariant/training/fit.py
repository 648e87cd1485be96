"""The part of a run that Lightning does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from ase_equivariant.potential import Potential
from ase_equivariant.training.callbacks import DivergedError, EpochProgress, RunKeeper, TensorBoardLog
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import Batch
from ase_equivariant.training.loader import EpochLoader
from ase_equivariant.training.logs import MetricsLog
from ase_equivariant.training.module import TrainingModule
from ase_equivariant.training.processes import Threads, make_trainer, part_from_others, process_lost, quiet_lightning
from ase_equivariant.training.stopping import RunStopped, StopOnSignal


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
    main: bool = True,
) -> FitOutcome:
    """Train ``potential`` until the configured end, from ``state`` if there is one.

    ``on_best`` receives, at each checkpoint, a copy of the potential with the best weights
    so far if they are new, and the record of the run. ``main`` is whether this process writes.

    Raises
    ------
    DivergedError
        If the loss becomes NaN or infinite, or that of the validation never was anything else.
    """
    run = config.run
    with part_from_others(), quiet_lightning():
        stop = StopOnSignal()
        keeper = RunKeeper(folder, log, fingerprint, on_best, stop, state["seconds"] if state else 0.0)
        callbacks: list[pl.Callback] = [Threads(run.threads), stop, keeper]
        if progress:
            callbacks.append(EpochProgress())
        if run.tensorboard and main:
            callbacks.append(TensorBoardLog(folder / "tensorboard", state["epoch"] if state else 0))
        trainer = make_trainer(config, callbacks)
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
            EpochLoader(validation, run.validation_batch_size, rank=trainer.global_rank, world_size=trainer.world_size),
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
            except DivergedError:
                if trainer.is_global_zero:
                    raise
                raise SystemExit(1) from None  # all processes know it at once, and one tells it
            except RuntimeError as error:
                if run.num_processes > 1 and (lost := process_lost(error)):
                    raise lost from error
                raise
    if stopped is None and not module.best_weights:
        if main:
            raise DivergedError(
                f"no validation of the run's {module.epoch} epochs had a finite loss, so there is no model to keep: "
                "look for wrong labels among the validation structures, or lower optimizer.lr"
            )
        raise SystemExit(1)
    module.load_best()
    potential.to("cpu")
    return FitOutcome(stopped, bool(module.best_weights), keeper.record(module))
