"""What :mod:`ase_equivariant.testing.pytest_plugin` collects: one test a check."""

from __future__ import annotations

import pytest

from ase_equivariant.testing.conformance import CHECKS, Subject, run_check


@pytest.mark.parametrize("check", CHECKS)
def test_calculator(check: str, ase_subject: Subject) -> None:
    """The check's message is all that a failure shows."""
    outcome = run_check(check, ase_subject)
    if outcome.state == "failed":
        pytest.fail(outcome.message, pytrace=False)
    if outcome.state == "not offered":
        pytest.skip(f"not offered: {outcome.message}")
