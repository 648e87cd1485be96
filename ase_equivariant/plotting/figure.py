"""Figures that never touch the user's matplotlib settings or windows."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from ase_equivariant.io.atomic import atomic_path


def new_figure(width: float = 6.4, height: float = 4.8) -> Figure:
    """A figure without a window, size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
