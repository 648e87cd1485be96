"""The gate is e3nn's, whatever irreps there are."""

from __future__ import annotations

import pytest
import torch
from e3nn_reference import IGNORE_TORCHSCRIPT, float64_default, gate, relative

from ase_equivariant.irreps import from_e3nn_layout, merge, to_e3nn_layout
from ase_equivariant.nn.gate import Gate
from ase_equivariant.testing import assert_equivariant

pytestmark = pytest.mark.filterwarnings(IGNORE_TORCHSCRIPT)

IRREPS = [
    "4x0e",
    "4x0e+3x0o",
    "4x0e+2x1o",
    "3x0o+2x1o",  # gates without even scalars
    "4x0e+3x0o+2x1o+3x1e+2x2e+1x2o+2x3o",
    "0e+1e+4o",
]
every_irreps = pytest.mark.parametrize("irreps", [merge(text) for text in IRREPS])


@every_irreps
def test_gate_is_that_of_e3nn(irreps, check):
    ours = Gate(irreps)
    with float64_default():
        theirs = gate(irreps)
    assert str(ours.irreps_in) == str(theirs.irreps_in)
    assert str(ours.irreps_out) == str(theirs.irreps_out)
    x = torch.randn(7, ours.irreps_in.dim, dtype=torch.float64)
    expected = from_e3nn_layout(theirs(to_e3nn_layout(x, ours.irreps_in)), irreps)
    check("Gate = e3nn.nn.Gate", relative(ours(x), expected), 1e-14)


@every_irreps
def test_gate_is_equivariant(irreps, check):
    layer = Gate(irreps)
    violation = assert_equivariant(layer, layer.irreps_in, layer.irreps_out, e3nn_layout=False)
    check("Gate: equivariance", violation, 1e-12)
