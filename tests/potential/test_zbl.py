"""ZBL repulsion against LAMMPS' documented formula, in numpy with derivatives by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ase_equivariant.potential.repulsion import ZBL

INNER, OUTER = 0.6, 1.7
NUMBERS = (1, 6, 14)
COULOMB = 1e-7 * 299792458**2 * 1.6021766208e-19 * 1e10  # e²/(4πε₀) in eV·Å, CODATA 2014 as ASE has it
AMPLITUDES = np.array([0.18175, 0.50986, 0.28022, 0.02817])
DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])


def bare(z_i, z_j, r):
    """Energy of a pair and its first two derivatives in r."""
    a = 0.46850 / (z_i**0.23 + z_j**0.23)
    terms = AMPLITUDES * np.exp(-np.multiply.outer(r, DECAYS) / a)
    phi, dphi, ddphi = (terms * (-DECAYS / a) ** n @ np.ones(4) for n in range(3))
    k = COULOMB * z_i * z_j
    return k * phi / r, k * (dphi / r - phi / r**2), k * (ddphi / r - 2 * dphi / r**2 + 2 * phi / r**3)


def documented(z_i, z_j, r):
    """LAMMPS' documentation of pair_style zbl, line by line."""
    e, de, dde = bare(z_i, z_j, OUTER)
    width = OUTER - INNER
    a = (-3 * de + width * dde) / width**2
    b = (2 * de - width * dde) / width**3
    c = -e + width / 2 * de - width**2 / 12 * dde
    switch = np.where(r < INNER, c, a / 3 * (r - INNER) ** 3 + b / 4 * (r - INNER) ** 4 + c)
    return np.where(r < OUTER, bare(z_i, z_j, r)[0] + switch, 0.0)


def energy_of_pair(i, j, r):
    """Ours, of two atoms joined by two directed edges, for many distances at once."""
    zbl, count = ZBL(torch.tensor(NUMBERS), INNER, OUTER), len(r)
    species = torch.tensor([i, j]).repeat(count)
    first, second = torch.arange(0, 2 * count, 2), torch.arange(1, 2 * count, 2)
    edge_index = torch.stack([torch.cat([first, second]), torch.cat([second, first])])
    atomic = zbl(species, edge_index, torch.cat([r, r]))
    assert torch.equal(atomic[::2], atomic[1::2])
    return atomic.view(count, 2).sum(dim=1)


@pytest.mark.parametrize("i", range(3))
@pytest.mark.parametrize("j", range(3))
def test_energy_is_lammps_formula(i, j, check):
    r = np.concatenate([np.linspace(0.05, 2.0, 60), [INNER, OUTER]])
    found = energy_of_pair(i, j, torch.tensor(r)).numpy()
    expected = documented(NUMBERS[i], NUMBERS[j], r)
    check("ZBL = LAMMPS' formula", float((np.abs(found - expected) / (1 + np.abs(expected))).max()), 1e-12)


def test_constant_is_that_of_lammps_in_metal_units():
    assert pytest.approx(14.399645, abs=1e-6) == COULOMB


@pytest.mark.parametrize(("i", "j"), [(0, 0), (1, 2)])
def test_energy_slope_and_curvature_vanish_at_the_outer_end(i, j, check):
    r = torch.tensor([OUTER - 1e-9, OUTER, OUTER + 0.1], dtype=torch.float64, requires_grad=True)
    energy = energy_of_pair(i, j, r)
    (slope,) = torch.autograd.grad(energy.sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    for name, values, allowed in (("energy", energy, 1e-12), ("slope", slope, 1e-12), ("curvature", curvature, 1e-5)):
        check(f"ZBL at the outer end: {name}", float(values.detach().abs().max()), allowed)
    assert energy[1:].eq(0).all()


def test_curvature_is_continuous_at_the_inner_end(check):
    r = torch.tensor([INNER - 1e-7, INNER + 1e-7], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(energy_of_pair(1, 2, r).sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    check("ZBL curvature at the inner end", float((curvature[0] / curvature[1] - 1).abs()), 1e-5)


def test_it_repels():
    r = torch.linspace(0.1, OUTER - 0.01, 100, dtype=torch.float64)
    energy = energy_of_pair(1, 2, r)
    assert (energy > 0).all()
    assert (energy.diff() < 0).all()


@pytest.mark.parametrize(("inner", "outer"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)])
def test_ends_must_be_in_order(inner, outer):
    with pytest.raises(ValueError, match="choose 0 < inner < outer"):
        ZBL(torch.tensor(NUMBERS), inner, outer)
