"""What happens at the end of an epoch: the table, checkpoints, the model file, and when to stop."""

# NOTE to the owner of training/: written by the founder while no word came from you, to start the shipped runs from a snapshot.
# Your design (build.py, fit.py: signals, exact mid-epoch resume) is preferred: replace this file and module.py/dataset.py as you had them.
# Keep: loss kind "norm" (loss.py, config.py), models/configs/{ethanol,si}.toml, fast epochs. Remove this note.

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ase_equivariant.training.config import RunConfig
from ase_equivariant.training.logs import MetricsLog
from ase_equivariant.training.module import TrainingModule


class DivergedError(RuntimeError):
    """The loss is not finite any more."""


class RunKeeper(pl.Callback):
    """Writes one row an epoch, checkpoints at intervals, and ends the run on its limits.

    The order at the end of an epoch is: row, model file if it is the best so far,
    checkpoint. A kill between any two of them loses no row and doubles none: the run goes
    on from the checkpoint, and rows of later epochs are dropped when it does.

    Parameters
    ----------
    config : RunConfig
        Limits and intervals.
    table : MetricsLog
        The table.
    save : callable
        Writes the checkpoint, given the training time in seconds.
    save_best : callable
        Writes the best model so far.
    seconds_before : float
        Training time of the runs this one continues.
    """

    def __init__(
        self,
        config: RunConfig,
        table: MetricsLog,
        save: Callable[[float], None],
        save_best: Callable[[], None],
        seconds_before: float = 0.0,
    ):
        self.config, self.table, self.save, self.save_best = config, table, save, save_best
        self.seconds_before = seconds_before
        self.started = self.last_save = time.monotonic()
        self.written_best = -1
        self.why_stopped = "max_epochs reached"

    @property
    def seconds(self) -> float:
        """Training time so far, in all parts of the run."""
        return self.seconds_before + time.monotonic() - self.started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Row, model file, checkpoint, limits."""
        assert isinstance(pl_module, TrainingModule)
        if not pl_module.loss_is_finite():
            raise DivergedError(
                f"the loss is not finite in epoch {pl_module.epoch + 1}: lower optimizer.lr or set "
                "optimizer.gradient_clip; the last checkpoint is from before and is kept"
            )
        row = pl_module.complete_epoch()
        self.table.write({**row, "seconds": round(self.seconds, 2)})
        if time.monotonic() - self.last_save >= 60 * self.config.checkpoint_minutes:
            self.write(pl_module)
        patience, minutes = self.config.early_stopping_epochs, self.config.max_minutes
        if patience is not None and pl_module.stale_epochs >= patience:
            self._stop(trainer, f"no better validation loss in {patience} epochs")
        elif minutes is not None and time.monotonic() - self.started >= 60 * minutes:
            self._stop(trainer, f"max_minutes = {minutes:g} reached; the same command continues")

    def write(self, module: TrainingModule) -> None:
        """Bring table, model file and checkpoint to the disk."""
        self.table.flush()
        if module.best_epoch > self.written_best:
            self.save_best()
            self.written_best = module.best_epoch
        self.save(self.seconds)
        self.last_save = time.monotonic()

    def _stop(self, trainer: pl.Trainer, why: str) -> None:
        self.why_stopped = why
        trainer.should_stop = True


class EpochProgress(pl.Callback):
    """A progress bar over epochs with the learning rate and the validation errors."""

    def __init__(self, max_epochs: int):
        self.max_epochs = max_epochs
        self.bar = Progress(
            TextColumn("epoch"), MofNCompleteColumn(), BarColumn(bar_width=24), TimeRemainingColumn(), TextColumn("{task.description}")
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        assert isinstance(pl_module, TrainingModule)
        self.task = self.bar.add_task("", total=self.max_epochs, completed=pl_module.epoch)
        self.bar.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Advance; runs after :class:`RunKeeper`, which counts the epoch."""
        assert isinstance(pl_module, TrainingModule)
        row = pl_module.last_row
        parts = [f"lr {row['lr']:.1e}", f"loss {row['train_loss']:.3e}"]
        for name, unit in (("energy_per_atom", "meV/atom"), ("forces", "meV/Å")):
            if f"val_{name}_mae" in row:
                parts.append(f"{name.split('_')[0]} MAE {row[f'val_{name}_mae']:.2f} {unit}")
        self.bar.update(self.task, completed=pl_module.epoch, description=" · ".join(parts))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the last state of the bar on the screen."""
        self.bar.stop()


class TensorBoardLog(pl.Callback):
    """The table's columns as TensorBoard scalars."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter  # optional package

        self.writer = SummaryWriter(str(folder))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add one epoch."""
        assert isinstance(pl_module, TrainingModule)
        for name, value in pl_module.last_row.items():
            self.writer.add_scalar(name, value, pl_module.epoch)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write what is buffered."""
        self.writer.close()
