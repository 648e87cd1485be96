"""Products of features with themselves are e3nn's, whatever irreps there are."""

from __future__ import annotations

import pytest
import torch
from e3nn_reference import IGNORE_TORCHSCRIPT, float64_default, linear, relative, square

from ase_equivariant.irreps import Irreps, from_e3nn_layout, merge, to_e3nn_layout
from ase_equivariant.nn.gate import Gate
from ase_equivariant.nn.square import TensorSquare
from ase_equivariant.testing import assert_equivariant

pytestmark = pytest.mark.filterwarnings(IGNORE_TORCHSCRIPT)

IRREPS = ["4x0e+4x1o+4x2e+4x3o", "5x0e+2x0o+3x1o+2x1e+1x2e", "2x0e+3x1e+3x2e", "1x0e+4x2o"]
every_irreps = pytest.mark.parametrize("irreps", [merge(text) for text in IRREPS])


def layer_for(irreps: Irreps) -> TensorSquare:
    gate = Gate(irreps)
    return TensorSquare(gate.irreps_in, gate.irreps_out)


@every_irreps
def test_square_is_that_of_e3nn(irreps, check):
    ours = layer_for(irreps)
    x = torch.randn(7, ours.linear.irreps_out.dim, dtype=torch.float64)
    with float64_default():
        products, mix = square(ours), linear(ours.linear)
    features = torch.cat([block.flatten(1) for block in _features(x, ours)], dim=1)
    in_theirs = to_e3nn_layout(features, irreps)
    expected = to_e3nn_layout(x, ours.linear.irreps_out) + mix(products(in_theirs, in_theirs))
    check("TensorSquare = e3nn", relative(ours(x), from_e3nn_layout(expected, ours.linear.irreps_out)), 1e-13)


def _features(x, layer):
    """The features without gates, which are the last of the even scalars: (7, 2l+1, mul) for each irrep."""
    start = 0
    for mul, ir in layer.linear.irreps_out:
        kept = layer.irreps_squared.count(ir)
        yield x[:, start : start + mul * ir.dim].unflatten(1, (ir.dim, mul))[..., :kept]
        start += mul * ir.dim


@every_irreps
def test_square_is_equivariant(irreps, check):
    layer = layer_for(irreps)
    irreps = layer.linear.irreps_out
    check("TensorSquare: equivariance", assert_equivariant(layer, irreps, irreps, e3nn_layout=False), 1e-12)


def test_a_product_of_vectors_with_themselves_has_no_cross_product():
    layer = layer_for(merge("2x0e+3x1o+2x1e+2x2e"))
    same = {(str(path.first.irrep), str(path.out.irrep)) for path in layer.paths if path.first == path.second}
    assert ("1o", "1e") not in same
    assert ("1o", "2e") in same
    both = [path for path in layer.paths if str(path.first.irrep) == "1o" and str(path.second.irrep) == "1e"]
    assert not [path for path in both if path.out.p == 1]  # polar times axial is polar
