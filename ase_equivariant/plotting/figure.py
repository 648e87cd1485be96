"""Figures that never touch the user's matplotlib settings or windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from ase_equivariant.io.atomic import atomic_path

Panel = Callable[[Axes], Axes]


def new_figure(width: float = 6.4, height: float = 4.8) -> Figure:
    """A figure without a window, size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def panels_figure(rows: Sequence[Sequence[Panel]], width: float, height: float) -> Figure:
    """A figure of rows of panels, each ``width`` by ``height`` inches, each drawn by its function; rows are as long."""
    figure = new_figure(width * len(rows[0]), height * len(rows))
    for axes, panels in zip(figure.subplots(len(rows), len(rows[0]), squeeze=False), rows, strict=True):
        for ax, draw in zip(axes, panels, strict=True):
            draw(ax)
    return figure


def check_picture(path: str | Path) -> None:
    """Raise ValueError if matplotlib writes no pictures of this file's ending."""
    endings = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in endings:
        raise ValueError(f"{path}: no ending of a picture: choose {', '.join(f'.{ending}' for ending in endings)}")


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
