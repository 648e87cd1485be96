"""The tensors of a NequIP model, named as in its state dict, put into one of our potentials.

Both are e3nn's conventions (paths normalized by element, components by irrep), so most of it is a matter of order:

- nequip lists irreps as they are configured and e3nn flattens the matrices of a linear map one
  behind the other; ours are merged and sorted, one matrix for each irrep;
- gates follow the order of what they gate;
- radial weights are ordered by source, harmonic and result in both, but the sources are not;
- the self-connection multiplies with the species' embedding, ours has a matrix for each species;
- the networks on scalars scale what follows a silu by √2, ours by 1/√⟨silu²⟩;
- Bessel wave numbers are in units of π/cutoff.

References
----------
nequip 0.19 (`InteractionBlock`, `ScalarMLPFunction`, `ConvNetLayer`); e3nn 0.6 (`Linear`, `Gate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ase_equivariant.architectures.nequip import NequIP, NequIPLayer
from ase_equivariant.io.foreign.e3nn_weights import (
    copy_matrices,
    gate_columns,
    linear_matrices,
    num_linear_weights,
    our_channels,
    product_channels,
)
from ase_equivariant.io.foreign.nequip_settings import NequIPSettings
from ase_equivariant.irreps import Irrep, Irreps
from ase_equivariant.nn.activations import SECOND_MOMENT
from ase_equivariant.potential.potential import Potential

# Gives a tensor of the file: (name, shape) → float64.
Take = Callable[[str, tuple[int, ...]], Tensor]

# What a layer behind a silu is multiplied by: √2 in nequip.
_SILU_RATIO = math.sqrt(2) / SECOND_MOMENT["silu"]


def fill_potential(potential: Potential, settings: NequIPSettings, take: Take) -> None:
    """Put the tensors of a file into ``potential``, which was built for ``settings``."""
    network = potential.network
    assert isinstance(network, NequIP)
    embedding = take("type_embed.embed_module.weight", tuple(network.embedding.shape))
    network.embedding.copy_(embedding)
    wave_numbers = take("bessel_encode.bessel_weights", (1, settings.num_bessels))
    network.basis.wave_numbers.copy_(math.pi / settings.r_max * wave_numbers.squeeze(0))
    features = Irreps([(settings.type_embed_num_features, (0, 1))])
    for k, (layer, hidden) in enumerate(zip(network.layers, settings.hidden, strict=True)):
        assert isinstance(layer, NequIPLayer)
        features = _fill_layer(layer, _inside(take, f"layer{k}_convnet.conv."), embedding, features, hidden)
    _fill_readout(potential, settings, _inside(take, "per_atom_energy_readout.mlp_module."))


def parameter_names(settings: NequIPSettings) -> list[str]:
    """Names of the tensors that are fitted, in the order in which nequip's modules hold them."""
    radial = [f"conv.edge_mlp.mlp.{2 * k}.weight" for k in range(settings.radial_mlp_depth[0] + 1)]
    names = ["type_embed.embed_module.weight"]
    if settings.bessel_trainable:
        names.append("bessel_encode.bessel_weights")
    for k, self_connected in enumerate(settings.has_self_connection):
        layer = ["conv.linear_1.weight", *radial, "conv.linear_2.weight", *["conv.sc.weight"] * self_connected]
        names += [f"layer{k}_convnet.{name}" for name in layer]
    names += [f"per_atom_energy_readout.mlp_module.{name}" for name in _readout_names(settings)]
    for which in ("scales", "shifts"):
        if getattr(settings, f"per_type_energy_{which}_trainable"):
            names.append(f"per_type_energy_scale_shift.{which}")
    return names


def _inside(take: Take, prefix: str) -> Take:
    return lambda name, shape: take(prefix + name, shape)


def _fill_layer(layer: NequIPLayer, take: Take, embedding: Tensor, features: Irreps, hidden: Irreps) -> Irreps:
    """Fill one layer; gives its output irreps in nequip's order."""
    conv = layer.convolution
    kept = Irreps([(mul, ir) for mul, ir in hidden if ir in {out for _, out in layer.irreps_out}])
    scalars, gated = (Irreps([(mul, ir) for mul, ir in kept if (ir.l == 0) == scalar]) for scalar in (True, False))
    into_gate = layer.gate.irreps_in  # both packages merge and sort the irreps that enter a gate
    columns = gate_columns(layer, gated)
    kept_irreps = {ir for _, ir in conv.plan.irreps_out}
    theirs, ours = list(product_channels(features, conv.plan.irreps_sh, kept_irreps)), our_channels(conv.plan)
    position = {channel: k for k, channel in enumerate(theirs)}
    _fill_scalar_network(list(conv.radial.weights), take, "edge_mlp.mlp.", [position[channel] for channel in ours])

    matrices = _matrices(take, "linear_1.weight", features, features)
    copy_matrices(conv.linear_in.weights, matrices)
    matrices = _matrices(take, "linear_2.weight", conv.plan.irreps_out, into_gate)
    for ir in matrices:
        rows = {channel: k for k, channel in enumerate(channel for channel in theirs if channel[0] == ir)}
        matrices[ir] = matrices[ir][[rows[channel] for channel in ours if channel[0] == ir]]
    copy_matrices(conv.linear_out.weights, matrices, columns)
    if layer.species_connection is not None:
        matrices = _matrices(take, "sc.weight", features, into_gate, (embedding.shape[1],))
        ratio = math.sqrt(embedding.shape[0] / embedding.shape[1])  # fan-in counts species here, channels there
        per_species = {ir: ratio * torch.einsum("sv,uvw->suw", embedding, matrix) for ir, matrix in matrices.items()}
        copy_matrices(layer.species_connection.weights, per_species, columns)
    return scalars + gated


def _fill_scalar_network(
    weights: Sequence[Tensor], take: Take, prefix: str, order: Sequence[int] | slice = slice(None)
) -> None:
    """Both divide by √fan-in; ``order`` is that of the outputs. Activations lie between the matrices of theirs."""
    for k, weight in enumerate(weights):
        theirs = take(f"{prefix}{2 * k}.weight", tuple(weight.shape))
        last = k + 1 == len(weights)
        weight.copy_((_SILU_RATIO if k else 1.0) * (theirs[:, order] if last else theirs))


def _matrices(
    take: Take, name: str, irreps_in: Irreps, irreps_out: Irreps, between: tuple[int, ...] = ()
) -> dict[Irrep, Tensor]:
    """One matrix (inputs, …, outputs) for each irrep."""
    flat = take(name, (num_linear_weights(irreps_in, irreps_out, between),))
    return linear_matrices(flat, irreps_in, irreps_out, between)


def _readout_names(settings: NequIPSettings) -> list[str]:
    if settings.readout_hidden and settings.readout_mlp_nonlinearity is None:
        return [f"mlp.weights.{k}" for k in range(len(settings.readout_hidden) + 1)]
    return [f"mlp.{2 * k}.weight" for k in range(len(settings.readout_hidden) + 1)]


def _fill_readout(potential: Potential, settings: NequIPSettings, take: Take) -> None:
    weights = list(potential.readout.mlp.weights)
    names = _readout_names(settings)
    if len(names) == len(weights):
        _fill_scalar_network(weights, take, "mlp.")
        return
    sizes = (settings.hidden[-1].dim, *settings.readout_hidden, 1)
    product = torch.eye(sizes[0], dtype=torch.float64)
    for name, fan_in, fan_out in zip(names, sizes[:-1], sizes[1:], strict=True):
        product = product @ take(name, (fan_in, fan_out)) / math.sqrt(fan_in)
    weights[0].copy_(math.sqrt(sizes[0]) * product)
