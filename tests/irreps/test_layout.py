"""Component-major layout and its border to e3nn."""

from __future__ import annotations

import torch

from ase_equivariant.irreps import Irreps, blocks, clebsch_gordan, from_e3nn_layout, merge, scalar_slice, to_e3nn_layout


def test_index_is_offset_plus_m_times_mul_plus_u():
    irreps = Irreps("2x0e+3x1o")
    theirs = torch.arange(11)
    assert from_e3nn_layout(theirs, irreps).tolist() == [0, 1, 2, 5, 8, 3, 6, 9, 4, 7, 10]
    scalars, vectors = blocks(irreps)
    assert (scalars.offset, vectors.offset) == (0, 2)
    view = vectors.view(from_e3nn_layout(theirs, irreps).unsqueeze(0))
    assert view[0].tolist() == [[2, 5, 8], [3, 6, 9], [4, 7, 10]]


def test_round_trip():
    irreps = Irreps("2x0e+3x1o+1x2e+4x3o")
    x = torch.randn(2, 5, irreps.dim)
    assert torch.equal(to_e3nn_layout(from_e3nn_layout(x, irreps), irreps), x)
    assert torch.equal(from_e3nn_layout(to_e3nn_layout(x, irreps), irreps), x)


def test_merge():
    assert str(merge("2x1o+3x0e+0x2e+1x1o+1x0o")) == "1x0o+3x0e+3x1o"


def test_even_scalars_lie_behind_odd_ones():
    assert scalar_slice(merge("3x0e+2x0o+1o")) == slice(2, 5)
    assert scalar_slice(merge("3x0e+1o")) == slice(0, 3)
    assert scalar_slice(merge("2x0o+1o")) == slice(0, 0)


def test_clebsch_gordan_coefficients_have_unit_norm():
    for degrees in ((0, 0, 0), (1, 1, 2), (2, 3, 4), (3, 3, 6)):
        coefficients = clebsch_gordan(*degrees)
        assert coefficients.dtype == torch.float64
        torch.testing.assert_close(coefficients.norm(), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-14)
