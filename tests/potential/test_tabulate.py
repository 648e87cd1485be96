"""Radial tables: exact at knots, smooth between, as far off as they say."""

import math

import numpy as np
import pytest
import torch

from ase_equivariant.potential.tabulate import TabulationError, knot_unit, tabulate

CUTOFF = 5.0


def smooth(r):
    """Two functions that end smoothly at the cutoff."""
    envelope = (1 - (r / CUTOFF).square()).pow(3)
    return torch.stack([envelope * torch.sin(4 * r), envelope * torch.exp(-r)], dim=1)


def evaluate(table, r):
    """Value, slope and curvature of the table."""
    k = len(table.coefficients)
    h = CUTOFF / k
    interval = np.minimum((r / h).astype(int), k - 1)
    t = r / h - interval
    found = []
    for order in range(3):
        powers = [
            math.perm(p, order) * t ** max(p - order, 0) / h**order if p >= order else 0 * t
            for p in range(table.coefficients.shape[1])
        ]
        found.append(np.einsum("rpw,pr->rw", table.coefficients[interval], np.array(powers)))
    return found


@pytest.mark.parametrize(("degree", "order"), [(3, 4), (5, 6)])
def test_error_falls_with_the_order_of_the_method_and_is_what_the_table_says(degree, order, check):
    r = np.random.default_rng(0).uniform(0.2, CUTOFF, 4000)
    exact = smooth(torch.from_numpy(r)).numpy()
    errors = []
    for intervals in (64, 128):
        table = tabulate(smooth, CUTOFF, intervals, degree)
        errors.append(np.abs(evaluate(table, r)[0] - exact).max() / np.abs(exact).max())
        assert table.value_error == pytest.approx(errors[-1], rel=0.4)
    assert errors[0] / errors[1] > 0.6 * 2**order


def test_large_weights_of_atoms_that_almost_touch_excuse_nothing_beyond():
    knot = 25 * CUTOFF / 128

    def steep(r):  # the spline is exact for the third function, which is 100 times the others at 0.5 Å
        return torch.cat([smooth(r), 1e3 * (knot - r).clamp(min=0).pow(3).unsqueeze(1)], dim=1)

    alone, beside = (tabulate(radial, CUTOFF, 128, 3) for radial in (smooth, steep))
    assert beside.value_error == pytest.approx(alone.value_error, rel=0.1)
    assert beside.slope_error == pytest.approx(alone.slope_error, rel=0.1)


@pytest.mark.parametrize("degree", [3, 5])
def test_value_slope_and_curvature_are_continuous(degree, check):
    table = tabulate(smooth, CUTOFF, 80, degree)
    knots = np.arange(1, 80) * CUTOFF / 80
    below, above = evaluate(table, knots * (1 - 1e-13)), evaluate(table, knots * (1 + 1e-13))
    for order, name in enumerate(("value", "slope", "curvature")):
        check(f"table is continuous: {name}", np.abs(below[order] - above[order]).max(), 1e-9)


@pytest.mark.parametrize("degree", [3, 5])
def test_it_ends_smoothly_at_the_cutoff(degree, check):
    table = tabulate(smooth, CUTOFF, 64, degree)
    value, slope, _ = evaluate(table, np.array([CUTOFF]))
    check("table vanishes at the cutoff: value", np.abs(value).max(), 1e-12)
    check("table vanishes at the cutoff: slope", np.abs(slope).max(), 1e-10)


def kinked(r):
    """Its second derivative jumps at 3.5 Å."""
    return (torch.sin(r) + (r - 3.5).clamp(min=0).square()).unsqueeze(1)


def test_a_breakpoint_on_a_knot_keeps_the_kink_to_itself():
    assert knot_unit(CUTOFF, (3.5,)) == 10
    for degree in (3, 5):
        aware, unaware = (tabulate(kinked, CUTOFF, 130, degree, points) for points in ((3.5,), ()))
        assert aware.slope_error < 1e-5
        if degree == 3:
            assert unaware.slope_error > 100 * aware.slope_error


def test_an_awkward_breakpoint_is_refused():
    with pytest.raises(TabulationError, match=r"3\.14159.* Å is no simple fraction of the cutoff 5\.0 Å"):
        knot_unit(CUTOFF, (math.pi,))
