"""A calculator is there soon: torch takes most of the time, and nothing heavy beside it is imported."""

from __future__ import annotations

import pytest
from benchmarks.startup import CALCULATOR, TORCH, measure

# Each would add between 0.1 and 1 s.
HEAVY = {"e3nn", "torch._dynamo", "torch._inductor", "sympy", "scipy", "pandas", "lightning", "tensorboard",
         "matplotlib", "typer", "rich", "dftd3", "ase.io", "ase.build", "ase.optimize", "ase.md"}  # fmt: skip


@pytest.fixture(scope="module")
def runs():
    """Two turns, of which the quicker counts: the first one reads the disk."""
    return [(measure(CALCULATOR, "si"), measure(TORCH, "")) for _ in range(2)]


def test_nothing_heavy_is_imported(runs):
    (ours, torch), _ = runs
    assert "ase_equivariant.calculator" in ours["modules"]
    assert sorted(HEAVY & set(ours["modules"]) - set(torch["modules"])) == []


@pytest.mark.slow  # processor time on a machine shared with others decides nothing in CI
def test_it_takes_little_longer_than_torch(runs):
    """A quarter of a second of processor time more; e3nn alone would add three times as much."""
    ours, torch = (min(run["processor"] for run in kind) for kind in zip(*runs, strict=True))
    assert ours - torch < 0.4 + 0.4 * torch
