"""Processes as Lightning starts and joins them, on one machine or several."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ase_equivariant.config import ConfigError
from ase_equivariant.training.config import RunConfig, TrainConfig
from ase_equivariant.training.machine import accelerator
from ase_equivariant.training.stopping import ProcessLostError


def is_main(config: TrainConfig) -> bool:
    """Whether this process is the one that writes files and talks.

    Lightning knows: it starts the other processes of one machine itself, by this process's own command, and
    recognizes those that Slurm or torchrun have started.

    Raises
    ------
    ConfigError
        If more or fewer processes were started than are configured.
    """
    run = config.run
    known = os.environ.get("WORLD_SIZE") if "LOCAL_RANK" in os.environ else None
    if known is None and run.num_processes == 1:  # else Lightning asks Slurm
        known = os.environ.get("SLURM_STEP_NUM_TASKS")
    if known is not None and int(known) != run.num_processes:
        raise ConfigError(
            f"{known} processes were started, but run.devices = {run.devices} on each of run.num_nodes = "
            f"{run.num_nodes} machines are {run.num_processes}: set both to what was started"
        )
    with quiet_lightning():
        return make_trainer(config, []).is_global_zero


def process_lost(error: RuntimeError) -> ProcessLostError | None:
    """What to tell people if an error means that another process has gone, None if it does not."""
    text = str(error)
    if not isinstance(error, torch.distributed.DistError) and "gloo" not in text.lower():
        return None
    return ProcessLostError(
        f"another process of the run has ended ({text.splitlines()[0][:200]}): look at its messages; "
        "the same command continues from the last checkpoint"
    )


@contextmanager
def part_from_others() -> Iterator[None]:
    """Leave the group of processes that is joined inside, also after an error.

    Lightning stays in it. A thread of gloo that is alive when the interpreter is taken down can end the process
    with ``std::terminate`` after a run that went well. The last threads belong to DDP's reducer, which only the
    collector of cycles finds.
    """
    was_member = torch.distributed.is_initialized()
    try:
        yield
    finally:
        if torch.distributed.is_initialized() and not was_member:
            torch.distributed.destroy_process_group()
            atexit.register(gc.collect)


class Threads(pl.Callback):
    """Sets the configured number of threads, which Lightning changes when it starts processes."""

    def __init__(self, count: int | None):
        self.count = count

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Do so."""
        if self.count is not None:
            torch.set_num_threads(self.count)


def _strategy(run: RunConfig) -> DDPStrategy | str:
    """How processes work together: gloo on CPUs, NCCL on CUDA.

    A batch may leave parameters out, such as those of a read-out without labels, and buffers never change.
    """
    if run.num_processes == 1:
        return "auto"
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)


def make_trainer(config: TrainConfig, callbacks: list[pl.Callback]) -> pl.Trainer:
    """A trainer that does nothing on the side: records and checkpoints are ours.

    Raises
    ------
    ConfigError
        If this machine does not have the configured devices.
    """
    run = config.run
    try:
        return pl.Trainer(
            accelerator=accelerator(run.device),
            devices=run.devices,
            num_nodes=run.num_nodes,
            strategy=_strategy(run),
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
    except MisconfigurationException as error:
        raise ConfigError(
            f"run.device = {run.device!r} with run.devices = {run.devices} cannot be had here, where PyTorch finds "
            f"{torch.cuda.device_count()} GPUs: choose others ({' '.join(str(error).split())})"
        ) from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
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
