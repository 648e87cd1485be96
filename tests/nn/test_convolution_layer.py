"""The convolution as a layer on features and positions."""

from __future__ import annotations

import pytest
import torch

from ase_equivariant.irreps import merge
from ase_equivariant.nn.angular import SphericalHarmonics
from ase_equivariant.nn.convolution import Convolution
from ase_equivariant.nn.radial import BesselBasis, PolynomialCutoff
from ase_equivariant.testing import assert_equivariant


@pytest.mark.parametrize(
    ("irreps_in", "irreps_out", "l_max", "parity"),
    [
        ("3x0e+2x0o+2x1o+1x1e", "2x0e+2x0o+3x1o+2x1e+1x2e+1x2o", 2, True),
        ("2x0e+1x1o+1x2e+1x3o", "2x0e+1x3o+1x3e+2x4e", 4, True),
        ("3x0e+2x1e+1x2e", "2x0e+2x1e+2x3e", 3, False),
    ],
)
def test_convolution_is_equivariant(irreps_in, irreps_out, l_max, parity, check):
    irreps_in, irreps_out = merge(irreps_in), merge(irreps_out)
    harmonics, basis, cutoff = SphericalHarmonics(l_max, parity), BesselBasis(4.0, 4), PolynomialCutoff(4.0)
    layer = Convolution(irreps_in, harmonics.irreps, irreps_out, [4, 6], avg_num_neighbors=3.0)
    positions = 1.5 * torch.randn(6, 3, dtype=torch.float64)
    edge_index = torch.nonzero(~torch.eye(6, dtype=torch.bool)).T

    def on_positions(features, positions):
        vectors = positions[edge_index[1]] - positions[edge_index[0]]
        r = vectors.norm(dim=1)
        return layer(features, harmonics(vectors / r[:, None]), basis(r) * cutoff(r)[:, None], edge_index)

    options = {"positions": positions, "inversion": parity, "e3nn_layout": False}
    violation = assert_equivariant(on_positions, irreps_in, irreps_out, **options)
    check("Convolution: equivariance", violation, 1e-12)
