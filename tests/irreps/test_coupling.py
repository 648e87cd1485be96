"""Coupling coefficients: e3nn's to rounding, an orthonormal basis, and equivariant by themselves."""

from __future__ import annotations

import itertools

import pytest
import torch
from e3nn import o3

from ase_equivariant.irreps import clebsch_gordan

TRIPLES = [
    (l1, l2, l3)
    for l1, l2, l3 in itertools.product(range(6), repeat=3)
    if abs(l1 - l2) <= l3 <= l1 + l2
]  # fmt: skip


@pytest.mark.parametrize("degrees", [*TRIPLES, (8, 7, 9), (10, 10, 11)], ids=str)
def test_coefficients_are_those_of_e3nn(degrees, check):
    ours, theirs = clebsch_gordan(*degrees), o3.wigner_3j(*degrees, dtype=torch.float64)
    assert ours.dtype == torch.float64
    assert ours.shape == theirs.shape
    check("Clebsch-Gordan coefficients = e3nn's", float((ours - theirs).abs().max()), 1e-14)


@pytest.mark.parametrize(("l1", "l2"), [*itertools.product(range(5), repeat=2)])
def test_they_are_a_change_of_basis(l1, l2):
    """√(2·l3+1)·C of all l3 is an orthogonal matrix from products to irreps."""
    parts = [(2 * l3 + 1) ** 0.5 * clebsch_gordan(l1, l2, l3).flatten(0, 1) for l3 in range(abs(l1 - l2), l1 + l2 + 1)]
    matrix = torch.cat(parts, dim=1)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(len(matrix), dtype=torch.float64), rtol=0, atol=1e-14)


def turn_of_harmonics(degree, rotation):
    """The matrix by which harmonics turn, from their values; e3nn's own matrices are good to 1e-8 only."""
    vectors = torch.randn(200, 3, dtype=torch.float64)
    before, after = (o3.spherical_harmonics(degree, v, normalize=True) for v in (vectors, vectors @ rotation.T))
    return torch.linalg.lstsq(before, after).solution.T


@pytest.mark.parametrize("degrees", [(1, 1, 1), (1, 2, 2), (2, 3, 4), (3, 3, 6)], ids=str)
def test_they_are_invariant(degrees, check):
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    rotation = rotation * torch.linalg.det(rotation)
    turns = [turn_of_harmonics(degree, rotation) for degree in degrees]
    turned = torch.einsum("ia,jb,kc,abc->ijk", *turns, clebsch_gordan(*degrees))
    check("Clebsch-Gordan coefficients: invariance", float((turned - clebsch_gordan(*degrees)).abs().max()), 1e-12)


def test_what_does_not_couple_is_refused():
    with pytest.raises(ValueError, match="l = 1 and 1 do not couple to 3"):
        clebsch_gordan(1, 1, 3)
