"""What happens around the steps: the table, checkpoints, the model file, limits and the progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ase_equivariant.potential import Potential
from ase_equivariant.training.checkpoint import save_checkpoint
from ase_equivariant.training.logs import MetricsLog
from ase_equivariant.training.loss import QUANTITIES
from ase_equivariant.training.module import TrainingModule
from ase_equivariant.training.stopping import RunStopped, StopOnSignal

# Looking at a loss makes an accelerator wait, so it is done now and then: NaN does not go away.
_CHECK_EVERY = 50
_SECONDS_BETWEEN_LINES = 10.0


class DivergedError(RuntimeError):
    """The loss is not finite any more."""


class RunKeeper(pl.Callback):
    """Writes one row an epoch, checkpoints at intervals, and ends the run on its limits.

    Lightning calls this before the module's own hooks, so that at the start of a batch the
    state is that after the previous step, and at the end of an epoch the epoch is still to be
    counted. A kill at any moment loses no row and doubles none: the run goes on from the
    checkpoint, of which there is one before the first step, and rows of later epochs are dropped when it does.

    Parameters
    ----------
    folder : Path
        Run folder.
    table : MetricsLog
        The table.
    fingerprint : str
        Of configuration and data, kept in the checkpoint.
    on_best : callable
        Receives, when a checkpoint is written, a copy of the potential with the best weights
        if they are new, and :meth:`record`.
    stop : StopOnSignal
        Knows whether somebody asked the run to stop.
    seconds_before : float
        Training time of the runs this one continues.
    """

    def __init__(
        self,
        folder: Path,
        table: MetricsLog,
        fingerprint: str,
        on_best: Callable[[Potential, dict[str, Any]], None],
        stop: StopOnSignal,
        seconds_before: float = 0.0,
    ):
        self.path, self.table, self.fingerprint = folder / "last.ckpt", table, fingerprint
        self.on_best, self.stop, self.seconds_before = on_best, stop, seconds_before
        self.started = self.last_save = time.monotonic()
        self.best_written = -1

    @property
    def seconds(self) -> float:
        """Training time so far, in all parts of the run."""
        return self.seconds_before + time.monotonic() - self.started

    def record(self, module: TrainingModule) -> dict[str, Any]:
        """What the model's card tells of the run."""
        return {
            "epochs": module.epoch,
            "steps": module.steps_done,
            "best_epoch": module.best_epoch + 1,
            "best_validation_loss": module.best_loss,
            "hours": round(self.seconds / 3600, 3),
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the first checkpoint: it says whose the folder is before anything else is in it."""
        assert isinstance(pl_module, TrainingModule)
        if pl_module.steps_done == 0:
            self.save(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the epoch validated if the run may end with it, whatever the interval: its weights may be the best."""
        assert isinstance(pl_module, TrainingModule)
        every = pl_module.config.run.validate_every
        trainer.check_val_every_n_epoch = 1 if pl_module.ends_with(pl_module.epoch + 1) else every

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Between two steps: look for NaN, stop if asked to, write a checkpoint if it is time."""
        assert isinstance(pl_module, TrainingModule)
        if pl_module.steps_done % _CHECK_EVERY == 0:
            self._refuse_nan(pl_module)
        run = pl_module.config.run
        reason = self.stop.agree(run.max_minutes, (time.monotonic() - self.started) / 60)
        if reason is not None:
            self.save(trainer, pl_module)
            raise RunStopped(reason)
        if run.checkpoint_minutes and self._is_due(run.checkpoint_minutes):
            self.save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the epoch, write its row, and a checkpoint if it is the first, it is time or the run is over."""
        assert isinstance(pl_module, TrainingModule)
        self._refuse_nan(pl_module)
        row = pl_module.complete_epoch()
        if trainer.is_global_zero:
            self.table.write({**row, "seconds": round(self.seconds, 2)})
        over = pl_module.is_over
        if over or pl_module.epoch == 1 or self._is_due(pl_module.config.run.checkpoint_minutes):
            self.save(trainer, pl_module)
        trainer.should_stop = over

    def save(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        """Bring table, model file and checkpoint to the disk, in this order."""
        self._refuse_nan(module)
        self.last_save = time.monotonic()
        if not trainer.is_global_zero:
            return
        self.table.flush()
        if module.best_epoch > self.best_written:
            self.on_best(module.best_potential(), self.record(module))
            self.best_written = module.best_epoch
        save_checkpoint(self.path, {**module.run_state(), "fingerprint": self.fingerprint, "seconds": self.seconds})

    def _is_due(self, minutes: float) -> bool:
        return time.monotonic() - self.last_save >= 60 * minutes

    def _refuse_nan(self, module: TrainingModule) -> None:
        if not module.loss_is_finite():
            kept = (
                f"the last good checkpoint, {self.path}, is kept"
                if self.path.exists()
                else "no checkpoint was written yet"
            )
            raise DivergedError(
                f"the loss is not finite in epoch {module.epoch + 1}: lower optimizer.lr or optimizer.gradient_clip, "
                f"and look for wrong labels; {kept}"
            )


class EpochProgress(pl.Callback):
    """A progress bar with the validation errors on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.last_line = -_SECONDS_BETWEEN_LINES

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what makes the run slow, and show the bar."""
        assert isinstance(pl_module, TrainingModule)
        if trainer.is_global_zero and (reason := pl_module.evaluator.why_not):
            print(f"by autograd, several times slower than compiled code: {reason}", flush=True)
        if not (sys.stdout.isatty() and trainer.is_global_zero):
            return
        note = TextColumn("{task.description}")
        self.bar = Progress(TextColumn("epoch"), MofNCompleteColumn(), BarColumn(24), TimeRemainingColumn(), note)
        self.task = self.bar.add_task("", total=pl_module.config.run.max_epochs, completed=pl_module.epoch)
        self.bar.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Advance by a part of an epoch."""
        assert isinstance(pl_module, TrainingModule)
        if self.bar is not None:
            part = pl_module.batches_done / pl_module.train_loader.batches_per_epoch
            self.bar.update(self.task, completed=round(pl_module.epoch + part, 2))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the errors; runs after :class:`RunKeeper`, which counts the epoch."""
        assert isinstance(pl_module, TrainingModule)
        text = _describe(pl_module.last_row)
        if self.bar is not None:
            self.bar.update(self.task, completed=pl_module.epoch, description=text)
            return
        now = time.monotonic()
        if trainer.is_global_zero and (pl_module.is_over or now - self.last_line >= _SECONDS_BETWEEN_LINES):
            self.last_line = now
            print(f"epoch {pl_module.epoch}/{pl_module.config.run.max_epochs}  {text}", flush=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End as :meth:`teardown`, which Lightning does not call then."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the last state of the bar on the screen."""
        if self.bar is not None:
            self.bar.stop()


def _describe(row: dict[str, float]) -> str:
    parts = [f"lr {row['lr']:.1e}", f"loss {row['train_loss']:.3e}"]
    for name, symbol, unit in (
        ("energy_per_atom", "E", "meV/atom"),
        ("forces", "F", "meV/Å"),
        ("stress", "σ", "meV/Å³"),
    ):
        if f"val_{name}_mae" in row:
            parts.append(f"{symbol} MAE {row[f'val_{name}_mae']:.2f} {unit}")
    known = {f"val_{name}_mae" for name in QUANTITIES}
    for column, value in row.items():
        if column.endswith("_mae") and column not in known:
            parts.append(f"{column[4:-4]} MAE {value:.2f}·10⁻³")
    return " · ".join(parts)


class TensorBoardLog(pl.Callback):
    """The table's columns as TensorBoard scalars.

    Raises
    ------
    ImportError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, last_epoch: int):
        try:
            from torch.utils.tensorboard import SummaryWriter  # optional package
        except ImportError:
            raise ImportError("run.tensorboard = true needs TensorBoard: pip install tensorboard") from None
        self.writer = SummaryWriter(str(folder), purge_step=last_epoch + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add one epoch."""
        assert isinstance(pl_module, TrainingModule)
        for name, value in pl_module.last_row.items():
            self.writer.add_scalar(name, value, pl_module.epoch)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End as :meth:`teardown`, which Lightning does not call then."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write what is buffered."""
        self.writer.close()
