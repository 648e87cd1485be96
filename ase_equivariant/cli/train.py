"""``ase-equivariant train``."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap
from typing import Annotated

import typer

from ase_equivariant.cli.common import console
from ase_equivariant.cli.evaluate import error_table
from ase_equivariant.training.config import load_config
from ase_equivariant.training.config_keys import config_keys
from ase_equivariant.training.run import train as run_training

# Tells scripts that there is no final model yet: the same command is to be run again.
UNFINISHED = 3
_WIDTH = 116


def _print_keys(asked: bool) -> None:
    """As a TOML file: comments, and what has a default."""
    if not asked:
        return
    for key in config_keys():
        of = f" Where {key.of}." if key.of else ""
        text = f"{key.meaning.replace('``', '')}{of} ({key.kind})"
        lines = [f"# {line}" for line in wrap(text, _WIDTH)]
        default = "" if key.default is None else json.dumps(key.default)
        holds = key.always and not key.of and default
        print("\n".join([*lines, f"{'' if holds else '# '}{key.name} = {default}".rstrip()]), end="\n\n")
    raise typer.Exit


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration, TOML.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, as often as needed.")] = None,
    restart_from_scratch: Annotated[
        bool,
        typer.Option(
            "--restart-from-scratch", help="Remove the earlier run in the folder; its model stays as NAME.old."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only the result.")] = False,
    keys: Annotated[
        bool,
        typer.Option("--keys", callback=_print_keys, is_eager=True, help="List all keys, their defaults and meaning."),
    ] = False,
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
