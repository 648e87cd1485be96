"""The reference convolution against e3nn's tensor product, against its formula, and its derivatives."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from e3nn_reference import (
    IGNORE_TORCHSCRIPT,
    float64_default,
    relative,
    tensor_product,
)

from ase_equivariant.irreps import Irreps, from_e3nn_layout, merge, to_e3nn_layout
from ase_equivariant.kernels import ConvPlan, PlanTables
from ase_equivariant.kernels.reference import tensor_product_conv

pytestmark = pytest.mark.filterwarnings(IGNORE_TORCHSCRIPT)

PLANS = {
    "scalars": ("3x0e", "0e", "0e"),
    "NequIP l=1": ("4x0e+3x1o", "0e+1o", "0e+1o"),
    "every parity": ("3x0e+2x0o+2x1o+1x1e+1x2e+2x2o", "0e+1o+2e", "0e+0o+1o+1e+2e+2o"),
    "l=4": ("2x0e+1x1o+2x2e+1x3o+1x4e", "0e+1o+2e+3o+4e", "0e+1o+2e+3o+4e"),
    "even only": ("2x0e+3x1e+1x2e", "0e+1e+2e", "0e+1e+2e"),
    "some outputs": ("2x0e+3x1o", "0e+1o+2e", "1e+3o"),
}
every_plan = pytest.mark.parametrize(
    "irreps", [tuple(merge(text) for text in case) for case in PLANS.values()], ids=PLANS
)


def inputs(plan, num_atoms=5, num_edges=14, dtype=torch.float64):
    """Random features, harmonics (any values: the product is linear in them), weights and edges; atom 4 has none."""
    edge_index = torch.stack([torch.randint(0, num_atoms - 1, (num_edges,)), torch.randint(0, num_atoms, (num_edges,))])
    sizes = ((num_atoms, plan.irreps_in.dim), (num_edges, plan.irreps_sh.dim), (num_edges, plan.num_weights))
    return [torch.randn(size, dtype=dtype) for size in sizes], edge_index


@every_plan
def test_convolution_is_that_of_e3nn(irreps, check):
    plan = ConvPlan(*irreps)
    (features, harmonics, weights), edge_index = inputs(plan)
    with float64_default():
        product = tensor_product(*irreps)
    assert product.weight_numel == plan.num_weights
    messages = product(to_e3nn_layout(features, plan.irreps_in)[edge_index[1]], harmonics, weights)
    summed = torch.zeros(5, messages.shape[1], dtype=torch.float64).index_add(0, edge_index[0], messages)
    expected = from_e3nn_layout(summed, plan.irreps_out)
    found = tensor_product_conv(features, harmonics, weights, edge_index, plan, PlanTables(plan))
    check("convolution = o3.TensorProduct", relative(found, expected), 1e-12)
    assert found[4].eq(0).all()


@pytest.mark.parametrize("name", ["every parity", "some outputs"])
def test_convolution_is_its_formula(name, check):
    """The sum of the docstring, one term after the other, in our layout."""
    plan = ConvPlan(*[merge(text) for text in PLANS[name]])
    (features, harmonics, weights), edge_index = inputs(plan, num_edges=4)
    expected = torch.zeros(5, plan.irreps_out.dim, dtype=torch.float64)
    for e, (i, j) in enumerate(edge_index.T.tolist()):
        for path in plan.paths:
            l1, l2, l3 = path.source.l, path.harmonic.l, path.out.l
            for (m1, m2, m3), c in _nonzero(o3.wigner_3j(l1, l2, l3, dtype=torch.float64)):
                for u in range(path.source.mul):
                    x = features[j, path.source.offset + m1 * path.source.mul + u]
                    y, w = harmonics[e, path.harmonic.offset + m2], weights[e, path.weight_offset + u]
                    to = path.out.offset + m3 * path.out.mul + path.channel_offset + u
                    expected[i, to] += w * (2 * l3 + 1) ** 0.5 * c * x * y
    found = tensor_product_conv(features, harmonics, weights, edge_index, plan, PlanTables(plan))
    check("convolution = its formula", relative(found, expected), 1e-13)


def _nonzero(coefficients):
    return [(index, float(coefficients[index])) for index in map(tuple, torch.nonzero(coefficients).tolist())]


@pytest.mark.parametrize("name", ["NequIP l=1", "some outputs"])
def test_first_and_second_derivatives(name):
    plan = ConvPlan(*[merge(text) for text in PLANS[name]])
    tables = PlanTables(plan)
    tensors, edge_index = inputs(plan, num_atoms=3, num_edges=3)
    arguments = [tensor.requires_grad_() for tensor in tensors]

    def convolve(features, harmonics, weights):
        return tensor_product_conv(features, harmonics, weights, edge_index, plan, tables)

    assert torch.autograd.gradcheck(convolve, arguments)
    assert torch.autograd.gradgradcheck(convolve, arguments)


def test_no_edges_and_no_atoms():
    plan = ConvPlan(*[merge(text) for text in PLANS["every parity"]])
    for num_atoms in (3, 0):
        features = torch.randn(num_atoms, plan.irreps_in.dim, dtype=torch.float64)
        nothing = torch.zeros(0, plan.irreps_sh.dim, dtype=torch.float64)
        weights, edges = torch.zeros(0, plan.num_weights, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.int64)
        out = tensor_product_conv(features, nothing, weights, edges, plan, PlanTables(plan))
        assert out.shape == (num_atoms, plan.irreps_out.dim)
        assert out.eq(0).all()


def test_float32():
    plan = ConvPlan(*[merge(text) for text in PLANS["every parity"]])
    tensors, edge_index = inputs(plan)
    exact = tensor_product_conv(*tensors, edge_index, plan, PlanTables(plan))
    single = tensor_product_conv(*[t.float() for t in tensors], edge_index, plan, PlanTables(plan).float())
    assert single.dtype == torch.float32
    assert relative(single.double(), exact) < 1e-5


def test_plan_keeps_only_reachable_outputs():
    plan = ConvPlan(Irreps("2x0e"), Irreps("0e+1o"), Irreps("3x0e+1x1o+4x2e"))
    assert str(plan.irreps_out) == "2x0e+2x1o"
    assert plan.num_weights == 4


def test_tables_survive_float32():
    """Constants are cast from their float64 original, not from what is left of them."""
    plan = ConvPlan(*[merge(text) for text in PLANS["l=4"]])
    tables, exact = PlanTables(plan).float().double(), PlanTables(plan)
    for name, tensor in exact.named_buffers():
        assert torch.equal(tables.get_buffer(name), tensor)
    assert not tables.state_dict()
