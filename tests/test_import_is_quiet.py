"""Importing the package prints nothing and changes nothing that others share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# The state is taken after the packages that ours is built on were imported: what they do is not our doing.
PROGRAM = """
import os, random, signal, sys, logging, locale, warnings
import ase.build, ase.calculators.calculator, matscipy.neighbours, numpy, pydantic, safetensors.torch, torch

def state():
    calculator = ase.calculators.calculator.Calculator
    return {
        "environment": dict(os.environ),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "gradients": torch.is_grad_enabled(),
        "safe globals": list(torch.serialization.get_safe_globals()),
        "warning filters": list(warnings.filters),
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": str(numpy.random.get_state()),
        "random generator": random.getstate(),
        "numpy errors and printing": (numpy.geterr(), str(numpy.get_printoptions())),
        "ase's calculator": {k: str(v) for k, v in vars(calculator).items()},
        "ase's properties": list(ase.calculators.calculator.all_properties),
        "ase's changes": list(ase.calculators.calculator.all_changes),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "search path": list(sys.path),
        "excepthook": sys.excepthook,
        "folder": os.getcwd(),
    }

before = state()
IMPORT
after = state()
for name in before:
    if before[name] != after[name]:
        raise SystemExit(f"changed: {name}: {before[name]} -> {after[name]}")
for heavy in ("lightning", "pytorch_lightning", "matplotlib", "tensorboard", "typer", "e3nn", "torch._dynamo"):
    if heavy in sys.modules:
        raise SystemExit(f"imported: {heavy}")
"""


def run(code):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.parametrize("module", ["ase_equivariant", "ase_equivariant.testing"])
@pytest.mark.parametrize("statement", ["import {}", "from {} import *"])
def test_import(statement, module):
    done = run(PROGRAM.replace("IMPORT", statement.format(module)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_this_test_sees_a_change():
    done = run(PROGRAM.replace("IMPORT", "os.environ['X'] = '1'"))
    assert done.returncode == 1
    assert done.stderr.startswith("changed: environment")
