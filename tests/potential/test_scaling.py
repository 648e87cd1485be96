"""Scales and shifts of species, exact in float64 whatever the network's dtype."""

from __future__ import annotations

import pytest
import torch

from ase_equivariant.potential.scaling import Scaling

SHIFT = [-13.587222780835477, -1029.4889999755189]


def test_values():
    scaling = Scaling(2)
    scaling.set(scale=[2.0, 0.5], shift=SHIFT)
    energies = scaling(torch.tensor([1.0, 4.0, -1.0]), torch.tensor([0, 1, 0]))
    assert energies.dtype == torch.float64
    assert energies.tolist() == [SHIFT[0] + 2.0, SHIFT[1] + 2.0, SHIFT[0] - 2.0]


def test_float32_and_half_do_not_round():
    scaling = Scaling(2)
    scaling.set(shift=SHIFT)
    for convert in (Scaling.float, Scaling.half, Scaling.double):
        assert convert(scaling).shift.tolist() == SHIFT


def test_state_dict_round_trip():
    scaling, other = Scaling(2).float(), Scaling(2)
    scaling.set(shift=SHIFT, scale=[0.1, 0.2])
    other.load_state_dict(scaling.state_dict())
    assert other.shift.tolist() == SHIFT
    assert other.scale.tolist() == [0.1, 0.2]


def test_set_leaves_the_other():
    scaling = Scaling(2)
    scaling.set(scale=[3.0, 4.0])
    scaling.set(shift=[1.0, 2.0])
    assert (scaling.scale.tolist(), scaling.shift.tolist()) == ([3.0, 4.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], r"shift needs one value for each of 2 species, got shape \(1,\)"),
        ([[1.0, 2.0]], r"shift needs one value for each of 2 species, got shape \(1, 2\)"),
        ([1.0, float("nan")], r"shift must be finite, got \[1.0, nan\]"),
    ],
)
def test_wrong_values(values, message):
    with pytest.raises(ValueError, match=message):
        Scaling(2).set(shift=values)
