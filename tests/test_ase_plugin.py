"""ASE finds the calculator through the entry point that pyproject.toml declares."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ase_equivariant import EquivariantCalculator

REPOSITORY = Path(__file__).resolve().parent.parent

plugins = pytest.importorskip("ase._4.plugins.plugin", reason="this ASE has no plugins")

PROGRAM = """
from ase._4.plugins import plugins
found = [plugin for plugin in plugins if plugin.name == "equivariant"]
print(found[0]().__module__, found[0]().__name__)
"""


def declared():
    with open(REPOSITORY / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["entry-points"]["ase.plugins"]


def test_plugin_module():
    assert declared() == {"equivariant": "ase_equivariant.ase_plugin"}
    from ase_equivariant.ase_plugin import __ase_plugins__

    (plugin,) = __ase_plugins__
    assert isinstance(plugin, plugins.CalculatorPlugin)
    assert plugin.implementation is EquivariantCalculator


def test_ase_finds_it_through_the_entry_point(tmp_path):
    """In a process of its own, with the metadata that an installation writes."""
    metadata = tmp_path / "ase_equivariant-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ase-equivariant\nVersion: 0\n")
    entries = "\n".join(f"{name} = {module}" for name, module in declared().items())
    (metadata / "entry_points.txt").write_text(f"[ase.plugins]\n{entries}\n")
    code = f"import sys; sys.path[:0] = {[str(tmp_path), str(REPOSITORY)]!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ase_equivariant.calculator", "EquivariantCalculator"]
