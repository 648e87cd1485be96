"""What every test may use: measured violations, listed at the end of a run beside what is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

_MEASURED: dict[str, tuple[float, float]] = {}


@pytest.fixture(scope="session")
def check():
    """``check(promise, violation, allowed)`` fails above ``allowed``; the largest violations are reported at last."""

    def check(promise, violation, allowed):
        worst, _ = _MEASURED.get(promise, (0.0, allowed))
        _MEASURED[promise] = (max(worst, violation), allowed)
        assert violation <= allowed, (
            f"{promise}: violated by {violation:.2e}, allowed is {allowed:.0e}"
        )  # NaN fails too

    return check


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


@pytest.fixture
def shared_data():
    """The folder of reference data; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"reference data are not at {SHARED_DATA}")
    return SHARED_DATA
