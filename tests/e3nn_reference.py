"""The same formulas built from e3nn's own modules, in e3nn's layout, with weights copied from ours."""

from __future__ import annotations

import contextlib
import math

import e3nn.nn
import torch
from e3nn import o3

from ase_equivariant.irreps import from_e3nn_layout

# e3nn compiles with TorchScript where PyTorch still supports it, and newer PyTorch warns of that.
IGNORE_TORCHSCRIPT = "ignore:`torch.jit.*` is deprecated:DeprecationWarning"


@contextlib.contextmanager
def float64_default():
    """e3nn makes its constants in the default dtype."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def relative(found, expected):
    """Largest difference relative to the largest expected value."""
    found, expected = found.detach(), expected.detach()
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def linear(ours):
    """o3.Linear with the weights of our Linear."""
    made = o3.Linear(ours.irreps_in, ours.irreps_out)
    with torch.no_grad():
        for weight, instruction in _weights(made):
            weight.copy_(ours.weights[str(made.irreps_in[instruction.i_in].ir)])
    return made


def species_linear(ours):
    """FullyConnectedTensorProduct of features and one-hot species with the weights of our SpeciesLinear."""
    made = o3.FullyConnectedTensorProduct(ours.irreps_in, o3.Irreps([(ours.num_species, (0, 1))]), ours.irreps_out)
    with torch.no_grad():
        for weight, instruction in _weights(made):
            weight.copy_(ours.weights[str(made.irreps_in1[instruction.i_in1].ir)].transpose(0, 1))
    return made


def square(ours):
    """TensorProduct of features with themselves, channel by channel, with the weights of our TensorSquare.

    e3nn wants as many channels in both factors and the result: others are blocks of the common ones beside the rest.
    """
    irreps, starts = [], {}
    for mul, ir in ours.irreps_squared:
        starts[ir] = len(irreps)
        irreps += [(1, ir)] * mul
    instructions, weights = [], []
    together = {}
    for path in ours.paths:
        together[path.out.irrep] = together.get(path.out.irrep, 0) + 1
    for path in ours.paths:
        for u in range(path.channels):
            places = (starts[block.irrep] + u for block in (path.first, path.second, path.out))
            # e3nn divides by the paths to this channel, which are fewer where a factor has fewer channels
            there = sum(p.out == path.out and p.channels > u for p in ours.paths)
            instructions.append((*places, "uuu", True, there / together[path.out.irrep]))
            weights.append(ours.weights[path.weight_offset + u])
    made = o3.TensorProduct(o3.Irreps(irreps), o3.Irreps(irreps), o3.Irreps(irreps), instructions)
    with torch.no_grad():
        made.weight.copy_(torch.stack(weights))
    return made


def _weights(module):
    pairs = [(weight, instruction) for _, instruction, weight in module.weight_views(yield_instruction=True)]
    assert sum(weight.numel() for weight, _ in pairs) == module.weight_numel
    return pairs


def mlp(ours):
    """FullyConnectedNet with the weights of our ScalarMLP."""
    sizes = [ours.weights[0].shape[0], *[weight.shape[1] for weight in ours.weights]]
    made = e3nn.nn.FullyConnectedNet(sizes, torch.nn.functional.silu)
    with torch.no_grad():
        for layer, weight in zip(made, ours.weights, strict=True):
            layer.weight.copy_(weight)
    return made


def tensor_product(irreps_in, irreps_sh, irreps_keep):
    """The "uvu" product of NequIP: every path its own output, sorted; weights for each edge from outside."""
    slots, instructions = [], []
    for i, (mul, ir_in) in enumerate(irreps_in):
        for j, (_, ir_sh) in enumerate(irreps_sh):
            for ir_out in ir_in * ir_sh:
                if ir_out in [ir for _, ir in irreps_keep]:
                    instructions.append((i, j, len(slots), "uvu", True))
                    slots.append((mul, ir_out))
    irreps_mid, position, _ = o3.Irreps(slots).sort()
    instructions = [(i, j, position[k], mode, train) for i, j, k, mode, train in instructions]
    return o3.TensorProduct(
        irreps_in, irreps_sh, irreps_mid, instructions, shared_weights=False, internal_weights=False
    )


def gate(irreps):
    """e3nn.nn.Gate for merged output irreps."""
    silu, tanh = torch.nn.functional.silu, torch.tanh
    scalars = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l == 0])
    gated = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l > 0])
    gates = o3.Irreps([(mul, (0, 1)) for mul, _ in gated])
    return e3nn.nn.Gate(scalars, [silu if ir.p == 1 else tanh for _, ir in scalars], gates, [silu] * len(gates), gated)


class Network(torch.nn.Module):
    """NequIP after the paper, from e3nn's modules, with the weights of our network.

    It shares with ours the configuration and the weights, and no code.
    """

    def __init__(self, ours):
        super().__init__()
        self.config, self.embedding = ours.config, ours.embedding.detach()
        self.wave_numbers = ours.basis.wave_numbers.detach()
        parity = -1 if self.config.parity else 1
        self.irreps_sh = o3.Irreps([(1, (degree, parity**degree)) for degree in range(self.config.l_max + 1)])
        self.layers = torch.nn.ModuleList(Layer(layer, self.irreps_sh) for layer in ours.layers)

    def forward(self, species, edge_index, edge_vectors):
        lengths = edge_vectors.norm(dim=1)
        degrees = list(range(self.config.l_max + 1))
        harmonics = o3.spherical_harmonics(degrees, edge_vectors, normalize=True, normalization="component")
        basis = self._radial_basis(lengths)
        one_hot = torch.nn.functional.one_hot(species, len(self.config.species)).to(edge_vectors.dtype)
        x = one_hot @ self.embedding
        for layer in self.layers:
            x = layer(x, one_hot, harmonics, basis, edge_index, self.config.avg_num_neighbors)
        return from_e3nn_layout(x, self.layers[-1].gate.irreps_out)

    def _radial_basis(self, r):
        cutoff, p = self.config.cutoff, self.config.polynomial_p
        bessel = 2 / cutoff * torch.sin(torch.outer(r, self.wave_numbers)) / r[:, None]
        x = r / cutoff
        envelope = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
        return bessel * (envelope * (x < 1))[:, None]


class Layer(torch.nn.Module):
    def __init__(self, ours, irreps_sh):
        super().__init__()
        convolution = ours.convolution
        self.gate = gate(ours.irreps_out)
        self.linear_in = linear(convolution.linear_in)
        self.radial = mlp(convolution.radial)
        self.product = tensor_product(self.linear_in.irreps_in, irreps_sh, self.gate.irreps_in)
        self.linear_out = linear(convolution.linear_out)
        assert self.linear_out.irreps_in == self.product.irreps_out.simplify()
        self.species = None if ours.species_connection is None else species_linear(ours.species_connection)
        self.skip = None if ours.linear_connection is None else linear(ours.linear_connection)

    def forward(self, x, one_hot, harmonics, basis, edge_index, avg_num_neighbors):
        centre, neighbour = edge_index
        messages = self.product(self.linear_in(x)[neighbour], harmonics, self.radial(basis))
        summed = torch.zeros(len(x), messages.shape[1], dtype=x.dtype).index_add(0, centre, messages)
        y = self.linear_out(summed / math.sqrt(avg_num_neighbors))
        if self.species is not None:
            y = y + self.species(x, one_hot)
        if self.skip is not None:
            y = y + self.skip(x)
        return self.gate(y)
