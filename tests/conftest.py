"""What every test may use: measured violations, listed at the end of a run beside what is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ase_equivariant import ModelCard, Potential, PotentialConfig, save_model
from ase_equivariant.architectures import NequIPConfig

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

_MEASURED: dict[str, tuple[float, float]] = {}


@pytest.fixture(scope="session")
def check():
    """``check(promise, violation, allowed)`` fails above ``allowed``; the largest violations are reported at last."""

    def check(promise, violation, allowed):
        worst, _ = _MEASURED.get(promise, (0.0, allowed))
        _MEASURED[promise] = (float(max(worst, violation)), allowed)
        assert violation <= allowed, (
            f"{promise}: violated by {violation:.2e}, allowed is {allowed:.0e}"
        )  # NaN fails too

    return check


def pytest_sessionfinish(session):
    """One of several processes (pytest -n) hands what it measured to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = _MEASURED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """The worst of what the processes measured is what counts."""
    for promise, (violation, allowed) in getattr(node, "workeroutput", {}).get("measured", {}).items():
        worst, _ = _MEASURED.get(promise, (0.0, allowed))
        _MEASURED[promise] = (max(worst, violation), allowed)


def pytest_terminal_summary(terminalreporter):
    if _MEASURED:
        terminalreporter.section("largest violation of each promise (allowed)")
        for promise, (worst, allowed) in sorted(_MEASURED.items()):
            terminalreporter.line(f"{promise:<60} {worst:.1e} ({allowed:.0e})")


@pytest.fixture(autouse=True)
def _seeded():
    """Random weights are the same whatever test ran before, and no test leaves another default dtype behind."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - ASE draws from it
    yield
    assert torch.get_default_dtype() == torch.float32, "the test changed torch's default dtype"


@pytest.fixture(scope="session")
def small_potential():
    """A potential of H, C, O and Si with random weights; tests share it and must not change it."""
    torch.manual_seed(7)
    network = NequIPConfig(
        species=("H", "C", "O", "Si"),
        cutoff=3.5,
        num_layers=2,
        l_max=1,
        irreps_hidden="4x0e+4x1o",
        radial_hidden=(8,),
        avg_num_neighbors=12.0,
    )
    potential = Potential(PotentialConfig(architecture=network, zbl=True))
    potential.scaling.set(scale=[0.4, 0.7, 0.9, 0.5], shift=[-13.6, -1027.6, -2041.8, -7869.4])
    return potential.requires_grad_(False)


@pytest.fixture(scope="session")
def model_file(small_potential, tmp_path_factory):
    """The small potential in a file of its own; tests must not change it."""
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save_model(path, small_potential, ModelCard(name="small", level_of_theory="none: random weights", license="MIT"))
    return path


@pytest.fixture
def shared_data():
    """The folder of reference data; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"reference data are not at {SHARED_DATA}")
    return SHARED_DATA
