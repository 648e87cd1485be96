"""The training run: from a configuration to a run folder with a model in it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.io.model_file import save_model
from ase_equivariant.potential import Potential
from ase_equivariant.potential.readout_config import readouts_of_atoms
from ase_equivariant.precision import parse_dtype
from ase_equivariant.training.build import (
    build_start,
    describe_splits,
    finished,
    make_card,
    make_fingerprint,
    summary,
)
from ase_equivariant.training.checkpoint import CheckpointError, check_same_run, load_checkpoint
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import make_samples
from ase_equivariant.training.evaluate import Evaluation, check_comparable, check_readout_shapes, evaluate
from ase_equivariant.training.folder_lock import hold_folder
from ase_equivariant.training.label_checks import check_born_charges, check_labels, warn_of_idle_readouts
from ase_equivariant.training.logs import MetricsLog, read_metrics
from ase_equivariant.training.machine import machine, speed
from ase_equivariant.training.overlap import warn_of_overlap
from ase_equivariant.training.splits import make_splits
from ase_equivariant.training.streaming import OnDemand


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Attributes
    ----------
    folder : Path
        The run folder.
    model_file : Path or None
        The model of the best validation; None if the run stopped before its first one.
    record : dict
        Whole epochs and steps trained, the best epoch and its loss, training time in hours.
    stopped : str or None
        Why the run ended before its time; the same command continues it. None if it is complete.
    evaluations : dict of Evaluation
        Of the model on the validation and test structures, once the run is complete; the main process has them.
    is_main : bool
        Whether this is the one of several processes that writes files and talks.
    """

    folder: Path
    model_file: Path | None
    record: dict[str, Any]
    stopped: str | None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    is_main: bool = True


def train(
    config: TrainConfig, *, restart_from_scratch: bool = False, quiet: bool = False, say: Callable[[str], None] = print
) -> TrainResult:
    """Train, or continue the run in the configured folder.

    The folder receives ``config.json`` (resolved), ``splits.json``, ``metrics.csv``,
    ``last.ckpt`` and the model of the best validation, ``NAME.safetensors``. A continued run
    is the same as one that was never stopped: same order, same weights, same table.

    Parameters
    ----------
    config : TrainConfig
        See :func:`ase_equivariant.training.config.load_config`.
    restart_from_scratch : bool
        Remove the run that the folder holds; its model is kept as ``NAME.old.safetensors``.
    quiet : bool
        No progress and no messages.
    say : callable
        Receives messages of one line.

    Raises
    ------
    ImportError
        If Lightning is not installed.
    DataError, CheckpointError
        If the data cannot be used, or the run in the folder is another one or lacks its checkpoint.
    FolderInUseError
        If another process trains in the folder.
    DivergedError
        If the loss becomes NaN or infinite, the last good checkpoint is kept; or if the run is complete and no
        validation loss was finite.
    """
    if importlib.util.find_spec("lightning") is None:
        raise ImportError("training needs Lightning: pip install 'ase-equivariant[train]'")
    from ase_equivariant.training.fit import fit  # imports Lightning, which is optional and slow to import
    from ase_equivariant.training.processes import is_main

    main = is_main(config)  # Lightning starts this command anew for each process
    with _threads(config.run.threads), ExitStack() as held:
        splits = make_splits(config.data, readouts_of_atoms(config.model.readouts))
        counted = config.model.architecture.avg_num_neighbors is None  # from the data
        start = build_start(config, splits)
        potential, config = start.potential, start.config
        validation = make_samples(splits.validation, potential.cutoff, parse_dtype(config.run.dtype))
        parts = {"training": start.samples, "validation": validation}
        check_labels(config, parts)
        evaluated = {name: part for name in ("validation", "test") if (part := getattr(splits, name))}
        trained = {"training": splits.train, "replayed": start.replay_source}
        for name, frames in trained.items():
            if not isinstance(frames, OnDemand):  # the first batch with such a label tells
                check_readout_shapes(potential, frames, name)
        for name, frames in evaluated.items():
            check_comparable(potential, frames, name)
        # replayed structures are in the same batches
        check_born_charges(config, {"training": chain(*trained.values()), **evaluated})
        if main and not quiet:
            warn_of_overlap(splits)
            warn_of_idle_readouts(config)
        fingerprint, folder = make_fingerprint(start, splits, parts), config.folder
        model_file = folder / f"{config.run.name}.safetensors"
        held.enter_context(hold_folder(folder, main))
        if restart_from_scratch and main:
            old = _clear(folder, model_file)
            if old is not None and not quiet:
                say(f"the earlier model is now {old}")
        state = None if restart_from_scratch else _find_checkpoint(config, fingerprint, model_file, counted)
        last_epoch = state["epoch"] if state else 0
        if main:
            _write_json(folder / "config.json", config.model_dump(mode="json"))
            _write_json(folder / "splits.json", describe_splits(config, splits))
        if main and not quiet:
            say(summary(start, splits))
            say(f"{f'continuing in epoch {last_epoch + 1}' if state else 'starting'}, in {folder}")

        def save(best: Potential, record: dict[str, Any], evaluations: dict[str, Evaluation] | None = None) -> None:
            kept = finished(best, start, splits)
            save_model(model_file, kept, make_card(config, kept, splits, {**record, **start.describe()}, evaluations))

        outcome = fit(
            config,
            potential,
            start.samples,
            validation,
            start.replay,
            folder=folder,
            log=MetricsLog(folder / "metrics.csv", last_epoch, trim=main, readouts=potential.readouts),
            state=state,
            fingerprint=fingerprint,
            on_best=save,
            progress=not quiet,
            main=main,
        )
        if not outcome.has_best or outcome.stopped is not None or not main:
            model = model_file if outcome.has_best else None
            return TrainResult(folder, model, outcome.record, outcome.stopped, is_main=main)
        evaluations = {name: evaluate(potential, frames) for name, frames in evaluated.items()}
        measured = {"speed": speed(potential, splits.validation[0]), "machine": machine()}
        save(potential, {**outcome.record, **measured}, evaluations)
    return TrainResult(folder, model_file, outcome.record, None, evaluations)


def _clear(folder: Path, model_file: Path) -> Path | None:
    """Remove what a run has written, and nothing else that may lie there; return where its model is now, if any."""
    for name in ("last.ckpt", "metrics.csv"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    return model_file.replace(_put_aside(model_file)) if model_file.exists() else None


def _put_aside(model_file: Path) -> Path:
    """Where the model of a run goes when another starts in its folder."""
    return model_file.with_suffix(".old.safetensors")


def _find_checkpoint(config: TrainConfig, fingerprint: str, model_file: Path, counted: bool) -> dict[str, Any] | None:
    """The checkpoint to continue from, if the folder holds one of this run; processes do not wait for each other here.

    Raises
    ------
    CheckpointError
        If it is of another run, or is lacking beside what a run has left.
    """
    folder = config.folder
    checkpoint, table = folder / "last.ckpt", folder / "metrics.csv"
    if not checkpoint.exists():
        left = [model_file.name] if model_file.exists() else []
        if table.exists() and read_metrics(table):
            left.append(table.name)
        if left:
            raise CheckpointError(
                f"{folder}: {' and '.join(left)} of an earlier run would be overwritten, which cannot go on without "
                f"its {checkpoint.name}: choose another run.folder, or start anew with --restart-from-scratch, which "
                f"keeps the model as {_put_aside(model_file).name}"
            )
        return None
    state = load_checkpoint(checkpoint)
    check_same_run(state, fingerprint, checkpoint, lambda: _changes(config, counted))
    return state


def _changes(config: TrainConfig, counted: bool) -> list[str] | None:
    """What is not as it was when the run in the folder was started or last continued; None if that is not known.

    A number of neighbours that was ``counted`` in the data is no setting.
    """
    try:
        earlier = TrainConfig.parse(json.loads((config.folder / "config.json").read_text(encoding="utf-8")))
        if counted:
            earlier = earlier.with_architecture(avg_num_neighbors=config.model.architecture.avg_num_neighbors)
    except (OSError, ValueError):
        return None
    return config.changes_since(earlier)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """PyTorch's threads, put back at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
