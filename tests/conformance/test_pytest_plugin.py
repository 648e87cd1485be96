"""The plugin as a user runs it: in a process and a folder of his own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

REPOSITORY = Path(__file__).resolve().parents[2]
MINE = """
from ase.calculators.lj import LennardJones

class Wrong(LennardJones):
    implemented_properties = ["energy", "free_energy", "forces"]
    def todict(self, skip_default=True):
        return {"object": object()}

def test_of_mine():
    pass
"""


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "ase_equivariant.testing.pytest_plugin", "-q", "-rs", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "test_mine.py").write_text(MINE)
    write(tmp_path / "copper.xyz", bulk("Cu", cubic=True), format="extxyz")
    return tmp_path


def test_a_calculator_of_ase(folder):
    done = run(folder, "--ase-calculator", "ase.calculators.lj:LennardJones", "--ase-structure", "copper.xyz")
    assert done.returncode == 0, done.stdout
    assert "31 passed" in done.stdout


def test_own_calculator_and_own_tests(folder):
    done = run(folder, "--ase-calculator", "test_mine:Wrong", "test_mine.py")
    assert done.returncode == 1
    assert "1 failed, 24 passed, 7 skipped" in done.stdout  # the user's own among the passed
    assert "todict() should give a dict that ASE can write as JSON, it raised TypeError" in done.stdout
    assert "not offered: no stress" in done.stdout
    assert "Traceback" not in done.stdout


def test_without_the_option_nothing_changes(folder):
    done = run(folder)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ase-calculator", "lj"], "'lj' is not of the form module:factory"),
        (["--ase-calculator", "no_such_module:X"], "cannot import 'no_such_module'"),
        (["--ase-calculator", "test_mine:X"], "module 'test_mine' has no 'X'"),
        (["--ase-structure", "copper.xyz"], "--ase-structure needs --ase-calculator"),
    ],
)
def test_wrong_arguments(arguments, message, folder):
    done = run(folder, *arguments)
    assert done.returncode == 4
    assert message in done.stderr


def test_the_checks_need_ase_and_numpy_only():
    """So that they run in another package's environment."""
    code = (
        "import sys, ase_equivariant.testing.conformance as c; c.Subject; print({'torch', 'pydantic'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert done.stdout.strip() == "set()", done.stderr
