"""Linear layers are e3nn's in another memory layout."""

from __future__ import annotations

import pytest
import torch
from e3nn_reference import (
    IGNORE_TORCHSCRIPT,
    float64_default,
    linear,
    relative,
    species_linear,
)

from ase_equivariant.irreps import Irreps, from_e3nn_layout, merge, to_e3nn_layout
from ase_equivariant.nn.linear import Linear, SpeciesLinear, group_by_species
from ase_equivariant.testing import assert_equivariant

pytestmark = pytest.mark.filterwarnings(IGNORE_TORCHSCRIPT)

PAIRS = [
    ("4x0e", "3x0e"),
    ("4x0e+2x0o+3x1o+2x1e", "5x0e+1x0o+2x1o+3x1e"),
    ("3x0e+2x1o", "3x0e+4x2e"),  # 2e is not in the input: zeros
    ("2x0e+3x2o+1x3e+2x4e", "1x0e+2x2o+2x3e+3x4e"),
    ("2x1o", "0e"),  # nothing in common
]
irreps_pairs = pytest.mark.parametrize(("irreps_in", "irreps_out"), [(merge(a), merge(b)) for a, b in PAIRS])


@irreps_pairs
def test_linear_is_that_of_e3nn(irreps_in, irreps_out, check):
    ours = Linear(irreps_in, irreps_out)
    with float64_default():
        theirs = linear(ours)
    x = torch.randn(6, irreps_in.dim, dtype=torch.float64)
    expected = from_e3nn_layout(theirs(to_e3nn_layout(x, irreps_in)), irreps_out)
    if len(ours.weights):
        check("Linear = o3.Linear", relative(ours(x), expected), 1e-14)
    else:
        assert ours(x).eq(0).all()
        assert expected.eq(0).all()


@irreps_pairs
@pytest.mark.parametrize("species", [[0, 2, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
def test_species_linear_is_a_product_with_one_hot_species(irreps_in, irreps_out, species, check):
    ours, species = SpeciesLinear(irreps_in, irreps_out, 4), torch.tensor(species)
    with float64_default():
        theirs = species_linear(ours)
    x, one_hot = torch.randn(6, irreps_in.dim, dtype=torch.float64), torch.nn.functional.one_hot(species, 4).double()
    expected = from_e3nn_layout(theirs(to_e3nn_layout(x, irreps_in), one_hot), irreps_out)
    found = ours(x, group_by_species(species))
    if len(ours.weights):
        check("SpeciesLinear = o3.FullyConnectedTensorProduct", relative(found, expected), 1e-14)
    else:
        assert found.eq(0).all()


@irreps_pairs
def test_layers_are_equivariant(irreps_in, irreps_out, check):
    ours = Linear(irreps_in, irreps_out)
    check("Linear: equivariance", assert_equivariant(ours, irreps_in, irreps_out, e3nn_layout=False), 1e-12)
    by_species, groups = SpeciesLinear(irreps_in, irreps_out, 2), group_by_species(torch.arange(8) % 2)
    violation = assert_equivariant(lambda x: by_species(x, groups), irreps_in, irreps_out, e3nn_layout=False)
    check("SpeciesLinear: equivariance", violation, 1e-12)


def test_no_atoms():
    layer = SpeciesLinear(Irreps("2x0e+1o"), Irreps("3x0e+1o"), 3)
    assert layer(torch.zeros(0, 5, dtype=torch.float64), group_by_species(torch.zeros(0, dtype=torch.int64))).shape == (
        0,
        6,
    )


def test_groups_hold_every_atom_once():
    species = torch.tensor([2, 0, 2, 5])
    groups = group_by_species(species)
    assert [(s, atoms.tolist()) for s, atoms in groups] == [(0, [1]), (2, [0, 2]), (5, [3])]
