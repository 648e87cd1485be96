"""What commands that compute a property leave: numbers in NAME.KIND.json, a picture in NAME.KIND.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ase_equivariant.cli.common import console, refuse_to_lose
from ase_equivariant.io.results import write_json
from ase_equivariant.plotting.figure import save_figure


def result_files(folder: Path, name: str, kind: str, overwrite: bool) -> tuple[Path, Path]:
    """Paths NAME.KIND.json and .png for numbers and picture.

    Raises
    ------
    FileExistsError
        If one is there and is not to be replaced.
    """
    files = folder / f"{name}.{kind}.json", folder / f"{name}.{kind}.png"
    refuse_to_lose(files, (), overwrite)
    return files


def write_results(files: tuple[Path, Path], content: dict[str, Any], figure: Figure) -> None:
    """Write the numbers and the picture to the paths of :func:`result_files`, and say so."""
    write_json(files[0], content)
    save_figure(figure, files[1])
    console.print(f"wrote {files[0]} and {files[1]}", soft_wrap=True)
