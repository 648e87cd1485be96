"""Cutoffs and Bessel functions against their closed forms."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from ase_equivariant.nn.radial import BesselBasis, PolynomialCutoff, XPLORCutoff

CUTOFF = 4.5

# Of 6000 processes like these 10, 14 and 17 saw another second sine without the first call that the module makes.
FIRST_SINES = """
import os, torch
MODULE
x = torch.linspace(0.1, 20.0, 20000, dtype=torch.float64)
differ = 0
for _ in range(6000):
    if (child := os.fork()) == 0:
        torch.set_num_threads(16)
        os._exit(not torch.equal(torch.sin(x), torch.sin(x)))
    differ += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(differ)
"""


def derivatives(fn, at, order):
    """Values of fn and its derivatives at one distance."""
    r = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    values = [fn(r)]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1].sum(), r, create_graph=True)[0])
    return [float(value.detach()) for value in values]


@pytest.mark.parametrize("p", [2.0, 5.0, 6.0])
def test_polynomial_cutoff(p, check):
    r = np.linspace(0.1, 6.0, 50)
    x = r / CUTOFF
    closed = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    found = PolynomialCutoff(CUTOFF, p)(torch.tensor(r)).numpy()
    check("PolynomialCutoff", float(np.abs(found - np.where(x < 1, closed, 0.0)).max()), 1e-13)
    assert (found[r > CUTOFF] == 0).all()


@pytest.mark.parametrize("p", [2.0, 6.0])
def test_polynomial_cutoff_vanishes_with_two_derivatives(p, check):
    fn = PolynomialCutoff(CUTOFF, p)
    for at in (CUTOFF, CUTOFF * (1 - 1e-12), CUTOFF + 0.1):
        for value in derivatives(fn, at, 2):
            check("PolynomialCutoff at the cutoff, two derivatives", abs(value), 1e-10)
    assert abs(derivatives(fn, 0.99 * CUTOFF, 1)[1]) > 1e-5


def test_xplor_cutoff(check):
    onset, r = 2.5, np.linspace(0.1, 6.0, 50)
    rc2, ron2 = CUTOFF**2, onset**2
    closed = (rc2 - r**2) ** 2 * (rc2 + 2 * r**2 - 3 * ron2) / (rc2 - ron2) ** 3
    expected = np.where(r < onset, 1.0, np.where(r < CUTOFF, closed, 0.0))
    check("XPLORCutoff", float(np.abs(XPLORCutoff(CUTOFF, onset)(torch.tensor(r)).numpy() - expected).max()), 1e-13)


def test_xplor_cutoff_is_smooth_at_both_ends(check):
    fn = XPLORCutoff(CUTOFF, 2.5)
    for at in (CUTOFF, CUTOFF * (1 - 1e-12), CUTOFF + 0.1):
        for value in derivatives(fn, at, 1):
            check("XPLORCutoff at the cutoff, one derivative", abs(value), 1e-10)
    for at in (2.5, 2.5 * (1 + 1e-12), 2.4):
        value, slope = derivatives(fn, at, 1)
        check("XPLORCutoff at the onset, one derivative", max(abs(value - 1), abs(slope)), 1e-10)


@pytest.mark.parametrize("onset", [4.5, 5.0, -1.0])
def test_xplor_onset_must_be_below_the_cutoff(onset):
    with pytest.raises(ValueError, match=rf"onset .* {onset} Å"):
        XPLORCutoff(CUTOFF, onset)


def test_bessel_basis(check):
    r = np.linspace(0.3, 4.4, 30)
    expected = 2 / CUTOFF * np.sin(np.outer(r, np.arange(1, 7)) * np.pi / CUTOFF) / r[:, None]
    found = BesselBasis(CUTOFF, 6)(torch.tensor(r)).detach().numpy()
    check("BesselBasis", float(np.abs(found - expected).max()), 1e-13)


def test_bessel_basis_is_orthogonal():
    """∫ R_m R_n r² dr = δ_mn · 2/cutoff: the eigenfunctions of a sphere, with NequIP's prefactor."""
    r = torch.linspace(1e-6, CUTOFF, 20_001, dtype=torch.float64)
    values = BesselBasis(CUTOFF, 5)(r).detach()
    overlaps = torch.trapezoid(values[:, :, None] * values[:, None, :] * r.square()[:, None, None], r, dim=0)
    torch.testing.assert_close(overlaps, 2 / CUTOFF * torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-6)


def test_wave_numbers_are_fitted_if_wanted():
    assert BesselBasis(CUTOFF).wave_numbers.requires_grad
    assert not BesselBasis(CUTOFF, trainable=False).wave_numbers.requires_grad


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="makes its processes by fork")
def test_threads_that_share_the_first_sine_of_a_process_get_all_digits():
    code = FIRST_SINES.replace("MODULE", "import ase_equivariant.nn.radial")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
