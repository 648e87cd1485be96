"""Cartesian components of vectors and symmetric tensors turn as vectors and tensors do."""

import pytest
import torch

from ase_equivariant.irreps.cartesian import symmetric_from_cartesian, symmetric_to_cartesian
from ase_equivariant.nn.angular import SphericalHarmonics
from ase_equivariant.testing.equivariance import turn_features

GENERATOR = torch.Generator().manual_seed(3)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


@pytest.fixture
def rotation():
    q, _ = torch.linalg.qr(random(3, 3))
    return q * torch.linalg.det(q)


def test_first_harmonic_is_the_vector_itself():
    directions = torch.nn.functional.normalize(random(5, 3), dim=1)
    harmonics = SphericalHarmonics(1, parity=True)(directions)
    torch.testing.assert_close(harmonics[:, 1:4], 3**0.5 * directions, rtol=0, atol=1e-14)


def test_second_harmonic_is_the_traceless_square():
    r = torch.nn.functional.normalize(random(4, 3), dim=1)
    harmonics = SphericalHarmonics(2, parity=True)(r)
    square = r[:, :, None] * r[:, None, :] - torch.eye(3, dtype=torch.float64) / 3
    found = symmetric_to_cartesian(torch.zeros(4, dtype=torch.float64), harmonics[:, 4:])
    scale = found[0, 0, 1] / square[0, 0, 1]
    torch.testing.assert_close(found, scale * square, rtol=0, atol=1e-13)
    assert scale > 0


def test_round_trip_and_norm():
    scalar, traceless = random(6), random(6, 5)
    tensor = symmetric_to_cartesian(scalar, traceless)
    torch.testing.assert_close(tensor, tensor.mT, rtol=0, atol=1e-15)
    again = symmetric_from_cartesian(tensor)
    torch.testing.assert_close(again[0], scalar, rtol=0, atol=1e-14)
    torch.testing.assert_close(again[1], traceless, rtol=0, atol=1e-14)
    norms = 3 * scalar.square() + traceless.square().sum(1)
    torch.testing.assert_close(tensor.square().sum((1, 2)), norms, rtol=1e-13, atol=0)


def test_tensors_turn(rotation):
    scalar, traceless, vector = random(3), random(3, 5), random(3, 3)
    turned = symmetric_to_cartesian(scalar, turn_features(traceless, "1x2e", rotation))
    expected = rotation @ symmetric_to_cartesian(scalar, traceless) @ rotation.T
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-13)
    turned = turn_features(vector, "1x1o", -rotation)
    torch.testing.assert_close(turned, -vector @ rotation.T, rtol=0, atol=1e-13)
