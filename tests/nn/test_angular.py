"""Spherical harmonics by recursion are e3nn's polynomials."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from e3nn_reference import IGNORE_TORCHSCRIPT, float64_default, relative

from ase_equivariant.nn.angular import SphericalHarmonics
from ase_equivariant.testing.equivariance import turn_features

pytestmark = pytest.mark.filterwarnings(IGNORE_TORCHSCRIPT)


def unit_vectors(count=40):
    random = torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64), dim=1)
    return torch.cat([random, torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])


def theirs(l_max, vectors):
    with float64_default():
        return o3.spherical_harmonics(list(range(l_max + 1)), vectors, normalize=False, normalization="component")


@pytest.mark.parametrize("l_max", range(9))
def test_harmonics_are_those_of_e3nn(l_max, check):
    vectors = unit_vectors()
    check(
        "SphericalHarmonics = o3, l <= 8", relative(SphericalHarmonics(l_max)(vectors), theirs(l_max, vectors)), 1e-13
    )


@pytest.mark.parametrize("l_max", [1, 2, 3, 5, 8])
def test_gradients_are_those_of_e3nn(l_max, check):
    """Along the sphere: off it the two are extended differently, and normalized edge vectors never leave it."""
    weights, edges, gradients = torch.randn(46, (l_max + 1) ** 2, dtype=torch.float64), 2.3 * unit_vectors(), []
    for harmonics in (SphericalHarmonics(l_max), lambda unit: theirs(l_max, unit)):
        vectors = edges.clone().requires_grad_()
        (weights * harmonics(vectors / vectors.norm(dim=1, keepdim=True))).sum().backward()
        gradients.append(vectors.grad)
    check("gradient of SphericalHarmonics = o3", relative(*gradients), 1e-12)


def test_normalization():
    """|Y_l|² = 2l + 1 on the whole sphere."""
    values = SphericalHarmonics(11)(unit_vectors())
    for degree in range(12):
        squares = values[:, degree**2 : (degree + 1) ** 2].square().sum(dim=1)
        torch.testing.assert_close(squares, torch.full_like(squares, 2 * degree + 1), rtol=1e-11, atol=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_harmonics_turn_with_the_vectors(sign, check):
    layer, vectors = SphericalHarmonics(8), unit_vectors()
    rotation = sign * torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    expected = turn_features(layer(vectors), layer.irreps, rotation)
    check("SphericalHarmonics: equivariance", relative(layer(vectors @ rotation.T), expected), 1e-12)


def test_irreps():
    assert str(SphericalHarmonics(3).irreps) == "1x0e+1x1o+1x2e+1x3o"
    assert str(SphericalHarmonics(3, parity=False).irreps) == "1x0e+1x1e+1x2e+1x3e"
