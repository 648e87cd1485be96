"""The RMS norm by hand."""

from __future__ import annotations

import numpy as np
import torch

from ase_equivariant.irreps import merge, to_e3nn_layout
from ase_equivariant.nn.norm import EquivariantRMSNorm
from ase_equivariant.testing import assert_equivariant

IRREPS = merge("3x0e+2x0o+2x1o+1x2e")


def layer_with_scales():
    layer = EquivariantRMSNorm(IRREPS)
    for scale in layer.scales:
        scale.data.uniform_(0.5, 2.0)
    return layer


def test_rms_norm_by_hand(check):
    """In e3nn's layout, with loops."""
    layer, x = layer_with_scales(), torch.randn(5, IRREPS.dim, dtype=torch.float64)
    found = to_e3nn_layout(layer(x), IRREPS).detach().numpy()
    features, expected = to_e3nn_layout(x, IRREPS).numpy(), []
    for node in features:
        start, squares, parts = 0, [], []
        for mul, ir in IRREPS:
            part = node[start : start + mul * ir.dim].reshape(mul, ir.dim)
            squares.append(np.mean([np.sum(channel**2) / (2 * ir.l + 1) for channel in part]))
            parts.append(part)
            start += mul * ir.dim
        rms = np.sqrt(np.mean(squares) + 1e-12)
        scaled = [part / rms * s.detach().numpy()[:, None] for part, s in zip(parts, layer.scales, strict=True)]
        expected.append(np.concatenate([part.ravel() for part in scaled]))
    check("EquivariantRMSNorm by hand", float(np.abs(found - np.array(expected)).max()), 1e-13)


def test_rms_norm_is_equivariant(check):
    violation = assert_equivariant(layer_with_scales(), IRREPS, IRREPS, e3nn_layout=False)
    check("EquivariantRMSNorm: equivariance", violation, 1e-12)


def test_zero_features_have_finite_gradients():
    x = torch.zeros(2, IRREPS.dim, dtype=torch.float64, requires_grad=True)
    out = EquivariantRMSNorm(IRREPS)(x)
    out.sum().backward()
    assert out.eq(0).all()
    assert x.grad.isfinite().all()
