"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ase_equivariant.io.atomic import atomic_path

FORMAT_VERSION = 1
_TOLD = 5  # settings in a message


class CheckpointError(ValueError):
    """A run that cannot be continued; the message says why and what to do."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, text and containers of them), whole or not at all."""
    with atomic_path(path) as temporary:
        torch.save({"format_version": FORMAT_VERSION, **state}, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU; nothing in the file is executed.

    Raises
    ------
    CheckpointError
        If the file is damaged or of another format.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # on files that are not checkpoints at all
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes PyTorch stumble in many ways
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: not a whole checkpoint ({first_line}); start anew with --restart-from-scratch"
        ) from None
    found = state.get("format_version") if isinstance(state, dict) else None
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint of format {found}, this version reads {FORMAT_VERSION}; "
            "continue with the version that wrote it or start anew with --restart-from-scratch"
        )
    return state


def check_same_run(
    state: dict[str, Any], fingerprint: str, path: Path, changes: Callable[[], list[str] | None] = lambda: None
) -> None:
    """Refuse to continue what would train something else; ``changes`` tells which settings are others, if known."""
    if state["fingerprint"] != fingerprint:
        found = changes()
        if found:
            more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
            what = f"with other settings: {', '.join(found[:_TOLD])}{more}"
        else:
            what = "with other settings or on other data" if found is None else "on other data"
        raise CheckpointError(
            f"{path.parent}: the run there was started {what}; continue it as it was, choose another run.folder "
            "(with init = the model file there to go on from its weights), or start anew with --restart-from-scratch"
        )
