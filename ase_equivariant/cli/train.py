"""``ase-equivariant train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ase_equivariant.cli.common import console
from ase_equivariant.training.config import load_config


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration, TOML.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, as often as needed.")] = None,
    restart_from_scratch: Annotated[
        bool, typer.Option("--restart-from-scratch", help="Remove the earlier run in the folder.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a model, or continue a run that was killed."""
    settings = load_config(config, overrides or ())
    try:
        from ase_equivariant.training.run import train as run  # Lightning is optional
    except ImportError as error:
        raise ImportError(f"training needs Lightning ({error}): pip install 'ase-equivariant[train]'") from None
    result = run(settings, restart_from_scratch=restart_from_scratch, quiet=quiet)
    console.print(
        f"{result.why_stopped}: {result.epochs} epochs, best after {result.best_epoch}, {result.seconds:.0f} s"
    )
    for name, value in result.errors.items():
        console.print(f"  {name}: {value:.4g}")
    console.print(f"wrote {result.model_file}", soft_wrap=True)
