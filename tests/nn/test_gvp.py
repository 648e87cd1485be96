"""Geometric vector perceptrons are those of the papers, smooth at zero vectors, and turn as they should."""

from __future__ import annotations

import gvp_reference
import numpy as np
import pytest
import torch

from ase_equivariant.nn.gvp import GVP, EdgeGVP, smooth_norm
from ase_equivariant.testing import assert_equivariant

SHAPES = {  # scalars and vectors, in and out
    "more in": (5, 4, 3, 2),
    "more out": (2, 2, 6, 5),
    "one vector": (3, 1, 4, 1),
    "no vectors out": (3, 3, 4, 0),
    "no scalars in": (0, 2, 3, 2),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
activated_or_not = pytest.mark.parametrize("activated", [True, False])


def made(shape, **settings):
    layer = GVP(*shape, **settings)
    for name, parameter in layer.named_parameters():
        if name.startswith("b_"):
            parameter.data.uniform_(-0.5, 0.5)
    return layer


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def difference(found, expected):
    """Of ours, (rows, n) and (rows, 3, ν), to the papers' list of (n,) and (ν, 3)."""
    s, v = (x.detach().numpy() for x in found)
    expected_s, expected_v = (np.array(x) for x in zip(*expected, strict=True))
    assert s.shape == expected_s.shape
    assert v.transpose(0, 2, 1).shape == expected_v.shape
    return max(np.abs(s - expected_s).max(), np.abs(v.transpose(0, 2, 1) - expected_v).max(initial=0.0))


@every_shape
@activated_or_not
def test_layer_is_that_of_the_papers(shape, activated, check):
    layer = made(shape, activated=activated, smoothing=0.3)
    s, v = random(7, shape[0]), random(7, 3, shape[1])
    expected = [gvp_reference.gvp(layer, a, b) for a, b in zip(s.numpy(), v.numpy().transpose(0, 2, 1), strict=True)]
    check("GVP = the papers' formulae", difference(layer(s, v), expected), 1e-13)


@every_shape
def test_without_smoothing_norms_are_norms(shape, check):
    layer = made(shape, smoothing=1e-10)
    s, v = random(7, shape[0]), random(7, 3, shape[1])
    expected = [
        gvp_reference.gvp(layer, a, b, np.linalg.norm)
        for a, b in zip(s.numpy(), v.numpy().transpose(0, 2, 1), strict=True)
    ]
    check("GVP = the papers' formulae, plain norms", difference(layer(s, v), expected), 1e-9)


@pytest.mark.parametrize("vectors", [0, 2])
def test_layer_of_an_edge_is_that_of_the_concatenation(vectors, check):
    layer = EdgeGVP(3, vectors, 4, 2, 5, 3)
    s, v = random(6, 3), random(6, 3, vectors)
    s_e, v_e = random(9, 4), random(9, 3, 2)
    centre, neighbour = edge_index = torch.randint(6, (2, 9))
    found = layer(s, v, s_e, v_e, edge_index)
    expected = layer.perceptron(
        torch.cat([s[centre], s[neighbour], s_e], dim=1), torch.cat([v[centre], v[neighbour], v_e], dim=2)
    )
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        check("EdgeGVP = GVP of the concatenation", float((a - b).detach().abs().max()), 1e-13)


@every_shape
@activated_or_not
def test_layer_turns_with_its_vectors(shape, activated, check):
    layer = made(shape, activated=activated)
    n, vectors, _, vectors_out = shape

    def flat(features):
        s, v = layer(features[:, :n], features[:, n:].unflatten(1, (3, vectors)))
        return torch.cat([s, v.flatten(1)], dim=1)

    irreps = [
        "+".join(f"{mul}x{ir}" for mul, ir in ((a, "0e"), (b, "1o")) if mul)
        for a, b in ((n, vectors), (shape[2], vectors_out))
    ]
    check("GVP: equivariance", assert_equivariant(flat, *irreps, e3nn_layout=False), 1e-12)


@pytest.mark.parametrize("zeros", ["no", "one vector", "all"])
@activated_or_not
def test_two_derivatives_even_at_zero(zeros, activated):
    layer = made((2, 3, 3, 2), activated=activated, smoothing=0.5)
    s, v = random(2, 2), random(2, 3, 3)
    if zeros == "one vector":
        v[0, :, 1] = 0
    elif zeros == "all":
        v[:] = 0
    inputs = (s.requires_grad_(), v.requires_grad_())
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)


def test_smooth_norm(check):
    v = random(20, 3, 4)
    assert smooth_norm(torch.zeros(2, 3, 1), 1.0).eq(0).all()
    plain = v.norm(dim=1)
    assert bool((smooth_norm(v, 1.0) < plain).all())
    check("smooth norm of a long vector", float((smooth_norm(1e6 * v, 1.0) - 1e6 * plain + 1).abs().max()), 1e-5)
    short = 1e-4 * v
    check(
        "smooth norm of a short vector", float((smooth_norm(short, 1.0) / (short.norm(dim=1) ** 2 / 2) - 1).max()), 1e-6
    )


def test_a_layer_without_vectors_is_refused():
    with pytest.raises(ValueError, match="a GVP of 0 vectors is a perceptron of scalars: give it one vector or more"):
        GVP(3, 0, 3, 1)
