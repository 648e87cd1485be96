"""``ase-equivariant train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ase_equivariant.cli.common import console
from ase_equivariant.cli.evaluate import error_table
from ase_equivariant.training.config import load_config
from ase_equivariant.training.run import train as run_training

# Tells scripts that there is no final model yet: the same command is to be run again.
UNFINISHED = 3


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration, TOML.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, as often as needed.")] = None,
    restart_from_scratch: Annotated[
        bool, typer.Option("--restart-from-scratch", help="Remove the earlier run in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only the result.")] = False,
) -> None:
    """Train a model, or continue where the same command was stopped or killed.

    Everything goes to the run folder (run.folder, by default runs/NAME): the model NAME.safetensors,
    metrics.csv, splits.json, config.json and the checkpoint last.ckpt. The exit status is 3 if the run
    was stopped, by Ctrl-C or run.max_minutes, and the same command continues it.
    """
    settings = load_config(config, overrides or ())
    result = run_training(settings, restart_from_scratch=restart_from_scratch, quiet=quiet, say=console.print)
    if not result.is_main:
        return  # the main process says how it was
    if result.stopped is not None:
        epochs = result.record["epochs"]
        console.print(f"stopped after {epochs} epochs ({result.stopped}); the same command continues", soft_wrap=True)
        raise typer.Exit(UNFINISHED)
    for part, evaluation in result.evaluations.items():
        console.print(error_table(evaluation, part))
    best, hours = result.record["best_epoch"], result.record["hours"]
    console.print(
        f"wrote {result.model_file}: epoch {best} of {result.record['epochs']}, {hours:.2f} h", soft_wrap=True
    )
