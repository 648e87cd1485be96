"""Training as Lightning sees it: a step, a validation and the state between them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from ase_equivariant.potential import Potential
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import Batch
from ase_equivariant.training.ema import WeightAverage
from ase_equivariant.training.evaluator import Evaluator
from ase_equivariant.training.loader import EpochLoader
from ase_equivariant.training.loss import ErrorSums, Loss, compute_errors
from ase_equivariant.training.machine import accelerator
from ase_equivariant.training.optimizers import build_optimizer
from ase_equivariant.training.schedules import Schedule


class TrainingModule(pl.LightningModule):
    """A potential in training. Epochs count from 0; ``epoch`` is the one under way.

    Lightning runs the loops; what must survive a kill is in :meth:`run_state`, taken
    between two steps anywhere in an epoch.

    Parameters
    ----------
    potential : Potential
        Trained in place.
    config : TrainConfig
        Resolved configuration.
    train, validation : EpochLoader
        Batches.
    state : dict, optional
        :meth:`run_state` of the run to continue.
    """

    def __init__(
        self,
        potential: Potential,
        config: TrainConfig,
        train: EpochLoader,
        validation: EpochLoader,
        state: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.potential, self.config = potential, config
        self.train_loader, self.validation_loader = train, validation
        self.loss = Loss(config.loss, readouts=self._scales())
        # DDP is told to look for parameters that a batch leaves out, and complains if it never finds one.
        self.left_out = torch.nn.Parameter(torch.zeros((), dtype=potential.dtype))
        self.evaluator = Evaluator(potential, config.run.compiled and accelerator(config.run.device) == "cpu")
        self._next_check = 0
        replay = config.finetune.replay
        self.train_loss = Loss(config.loss, replay.weights, self._scales()) if replay is not None else self.loss
        self.schedule = Schedule(config.schedule, train.batches_per_epoch, config.run.max_epochs)
        self.ema: WeightAverage | None = None
        self.epoch = self.batches_done = self.steps_done = 0
        self.best_loss, self.best_epoch = math.inf, -1
        self.best_weights: dict[str, Tensor] = {}
        self.metrics: dict[str, float] = {}  # of the validation in the epoch under way
        self.last_row: dict[str, float] = {}  # of the last whole epoch, for callbacks
        self._loss_sum = torch.zeros((), dtype=torch.float64)
        self._val_errors, self._val_sums = ErrorSums(), torch.zeros(0)
        self._restored = state
        if state is not None:
            self.schedule.load_state_dict(state["schedule"], state["epoch"])
            self.epoch, self.batches_done, self.steps_done = state["epoch"], state["batches_done"], state["steps_done"]
            self._loss_sum = state["loss_sum"]
            best = state["best"]
            self.best_loss, self.best_epoch, self.best_weights = best["loss"], best["epoch"], best["weights"]

    def _scales(self) -> dict[str, float]:
        """The potential's other read-outs, and their units in the loss."""
        return {key: float(read.scaling.scale.mean()) for key, read in self.potential.tensor_readouts().items()}

    # --- the state of the run -------------------------------------------------------------

    def run_state(self) -> dict[str, Any]:
        """Everything that decides the rest of the run."""
        assert self.ema is not None
        return {
            "model": self.potential.state_dict(),
            "optimizer": self._optimizer().state_dict(),
            "ema": self.ema.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "batches_done": self.batches_done,
            "steps_done": self.steps_done,
            "loss_sum": self._loss_sum.cpu(),
            "best": {"loss": self.best_loss, "epoch": self.best_epoch, "weights": self.best_weights},
            "rng": torch.get_rng_state(),
        }

    def configure_optimizers(self) -> Optimizer:
        """Build the optimizer and the average on the model's device, and continue them if so asked."""
        optimizer = build_optimizer(self.config.optimizer, self.potential)
        state = self._restored
        if state is not None:
            self.potential.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"])
        self.ema = WeightAverage(self.potential, self.config.run.ema_decay)
        if state is not None:
            self.ema.load_state_dict(state["ema"])
        self._loss_sum = self._loss_sum.to(self.device)
        self._restored = None
        return optimizer

    def _optimizer(self) -> Optimizer:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        return optimizer

    def load_best(self) -> None:
        """Give the potential the averaged weights of the best validation."""
        if self.best_weights:
            self.potential.load_state_dict(self.best_weights)

    def best_potential(self) -> Potential:
        """A copy of the potential, on the CPU, with the averaged weights of the best validation."""
        copy = deepcopy(self.potential).cpu()
        copy.load_state_dict(self.best_weights)
        return copy

    def loss_is_finite(self) -> bool:
        """Whether no loss of this epoch was NaN or infinite; once one is, the sum is."""
        return bool(torch.isfinite(self._loss_sum))

    # --- batches --------------------------------------------------------------------------

    def train_dataloader(self) -> Iterable[Batch]:
        """Batches of the epoch under way, from where it was left."""
        self.train_loader.epoch, self.train_loader.skip = self.epoch, self.batches_done
        return self.train_loader

    def val_dataloader(self) -> Iterable[Batch]:
        """Validation batches, in order."""
        return self.validation_loader

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch, if it is not there."""
        return batch if batch.energy.device == device else batch.to(device)

    # --- training -------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        lr = self.config.optimizer.lr * self.schedule.factor(self.steps_done)
        for group in self._optimizer().param_groups:
            group["lr"] = lr

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; of several processes each returns its own part, scaled for DDP."""
        if self.epoch >= self._next_check:
            self._check(batch)
        needs = {"forces": self.train_loss.needs_forces, "stress": self.train_loss.needs_stress}
        prediction = self.evaluator(batch, **needs)
        errors = compute_errors(prediction, batch)
        sums = self.train_loss.sums(errors, batch)
        together = self._add_up(sums.detach().clone())
        self._loss_sum += self.train_loss.total(together)
        # The part of the whole batch's loss that is of this process's structures. DDP takes the mean of
        # the processes' gradients; the whole batch's is their sum.
        loss = self.trainer.world_size * self.train_loss.total(torch.stack([sums[:, 0], together[:, 1]], dim=1))
        if not loss.requires_grad:  # no label of it in these structures
            predicted: dict[str, Tensor] = {**prediction}  # type: ignore[dict-item]
            names = [name for name in self.train_loss.terms if name in predicted] or ["energy"]
            loss = loss + 0.0 * torch.stack([predicted[name].sum().double() for name in names]).sum()
        return loss

    def _check(self, batch: Batch) -> None:
        """Look at compiled derivatives; all processes use them or none does.

        Again and again, ever more rarely: radial functions that training makes sharper need not suit the splines.
        """
        self.evaluator.check(batch, self.train_loss)
        without = torch.tensor(float(self.evaluator.compiled is None), device=self.device)
        if self._add_up(without) > 0:
            self.evaluator.compiled = None
        self._next_check = 2 * self.epoch + 1

    def _add_up(self, values: Tensor) -> Tensor:
        """The sum over all processes, without gradient."""
        return self.trainer.strategy.reduce(values, reduce_op="sum")

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Count the step and average the weights."""
        assert self.ema is not None
        self.ema.update()
        self.batches_done += 1
        self.steps_done += 1

    # --- validation -----------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Put the averaged weights in place."""
        assert self.ema is not None
        self.ema.swap()
        self._val_errors = ErrorSums(self.device, self.potential.readouts)
        self._val_sums = torch.zeros(len(self.loss.terms), 2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add up the errors of one batch."""
        prediction = self.evaluator(batch, forces=True, stress=bool(batch.has_stress.any()))
        errors = compute_errors(prediction, batch)
        self._val_errors.add(errors)
        self._val_sums += self.loss.sums(errors, batch).detach()

    def on_validation_end(self) -> None:
        """Take the epoch's metrics, remember the best weights and put the trained weights back."""
        assert self.ema is not None
        self._val_errors.values = self._add_up(self._val_errors.values)
        loss = float(self.loss.total(self._add_up(self._val_sums)))
        self.metrics = {"val_loss": loss, **{f"val_{k}": v for k, v in self._val_errors.metrics().items()}}
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.epoch
            self.best_weights = {k: v.detach().cpu().clone() for k, v in self.potential.state_dict().items()}
        self.schedule.on_validation(loss, self.epoch)
        self.ema.swap()

    def complete_epoch(self) -> dict[str, float]:
        """Count the epoch, go to the next, and give its row of the table."""
        self.epoch += 1
        self.last_row = {
            "epoch": self.epoch,
            "step": self.steps_done,
            "lr": self._optimizer().param_groups[0]["lr"],
            "train_loss": float(self._loss_sum) / self.batches_done,
            **self.metrics,
        }
        self.metrics = {}
        self.batches_done = 0
        self._loss_sum = torch.zeros_like(self._loss_sum)
        self.train_loader.epoch, self.train_loader.skip = self.epoch, 0
        return self.last_row

    def ends_with(self, epochs: int) -> bool:
        """Whether the run is over after so many epochs: all are done, or the validation so far stays the best."""
        run, stale = self.config.run, epochs - 1 - self.best_epoch
        patience = run.early_stopping_epochs
        return epochs >= run.max_epochs or (patience is not None and stale >= patience)

    @property
    def is_over(self) -> bool:
        """Whether the last epoch is done, or the validation has not improved for long enough."""
        return self.ends_with(self.epoch)
