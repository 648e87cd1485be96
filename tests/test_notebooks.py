"""The notebooks run, and are the programs of the same name in scripts/ cut at their ``# %%`` lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "scripts").glob("*.ipynb"))


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def script_cells(path: Path) -> list[str]:
    """The program without its docstring; titles are the notebook's text."""
    _, *parts = path.read_text(encoding="utf-8").replace('"""\n\n', '"""\n# %% Setup\n', 1).split("\n# %%")
    return [part.partition("\n")[2].strip() for part in parts]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, capsys):
    names = {"__name__": "__main__", "get_ipython": None}  # what programs know a notebook by
    for cell in code_cells(path):
        exec(compile(cell, path.name, "exec"), names)
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_the_script(path):
    assert code_cells(path) == script_cells(ROOT / "scripts" / f"{path.stem}.py")


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["data_efficiency", "representations"]
