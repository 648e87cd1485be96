"""One layer of a Nequix file: the order of its arrays, and what ours makes of their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ase_equivariant.architectures.nequip import NequIPLayer
from ase_equivariant.irreps import Irrep, Irreps
from ase_equivariant.kernels import ConvPlan
from ase_equivariant.nn.activations import SECOND_MOMENT
from ase_equivariant.nn.norm import EquivariantRMSNorm

# Gives the next array of the file: (shape, what it is) → float64.
Read = Callable[[tuple[int, ...], str], Tensor]


def fill_layer(layer: NequIPLayer, read: Read, where: str, gain: float) -> None:
    """Read radial network, three linear maps and norm, in this order, into ``layer``.

    ``gain`` is how much larger the features that come in are in e3nn-jax than in ours.
    """
    conv, gated = layer.convolution, layer.gate.irreps_in
    features, product = conv.plan.irreps_in, conv.plan.irreps_out
    _fill_radial(list(conv.radial.weights), conv.plan, read, f"{where}, radial network")
    _fill_linear(conv.linear_in.weights, features, features, read, f"{where}, linear_1", gain)
    into_norm = _norm_weights(layer)
    _fill_linear(conv.linear_out.weights, product, gated, read, f"{where}, linear_2", 1.0, into_norm)
    if layer.species_connection is not None:
        skip, gain = layer.species_connection, gain * math.sqrt(layer.species_connection.num_species)
        _fill_linear(skip.weights, features, gated, read, f"{where}, skip", gain, into_norm, (skip.num_species,))
    elif layer.linear_connection is not None:
        _fill_linear(layer.linear_connection.weights, features, gated, read, f"{where}, skip", gain, into_norm)
    if isinstance(layer.norm, EquivariantRMSNorm):
        for block, scale in zip(layer.norm.blocks, layer.norm.scales, strict=True):
            scale.copy_(read(tuple(scale.shape), f"{where}, norm of {block.irrep}") / into_norm[block.irrep])


def _norm_weights(layer: NequIPLayer) -> dict[Irrep, float]:
    """How much larger to make each irrep before our norm so that it divides by what Nequix divides by.

    Ours is ``1/B Σ_blocks mean_u mean_m x[m, u]²``. Nequix sums over the channels u where this takes
    their mean, and takes a mean over m of what it divided by 2l+1 before: a block counts
    C/(2l+1) times as much. Blocks √(C/(2l+1)) times as large count so; the norm's scales undo the rest.
    """
    if not isinstance(layer.norm, EquivariantRMSNorm):
        return {ir: 1.0 for _, ir in layer.gate.irreps_in}
    return {block.irrep: math.sqrt(block.mul / block.num_components) for block in layer.norm.blocks}


def _fill_radial(weights: Sequence[Tensor], plan: ConvPlan, read: Read, what: str) -> None:
    """Ours divides each layer by √fan-in and scales activations; the file's numbers are used as they are.

    The last layer's outputs are sorted by the irrep they lead to; ours by the one they come from.
    """
    by_output = sorted(plan.paths, key=lambda path: path.out.offset)
    order = torch.cat([torch.arange(path.source.mul) + path.weight_offset for path in by_output])
    for k, weight in enumerate(weights):
        gain = SECOND_MOMENT["silu"] if k else 1.0
        theirs = read(tuple(weight.shape), f"{what}, matrix {k}") * (math.sqrt(weight.shape[0]) / gain)
        weight[:, order if k + 1 == len(weights) else slice(None)] = theirs


def _fill_linear(
    weights: nn.ParameterDict,
    irreps_in: Irreps,
    irreps_out: Irreps,
    read: Read,
    what: str,
    gain: float,
    out_gains: Mapping[Irrep, float] | None = None,
    leading: tuple[int, ...] = (),
) -> None:
    """Read one matrix for each irrep that ``irreps_in`` and ``irreps_out`` share; both sides divide by √fan-in."""
    inputs, outputs = ([ir for _, ir in irreps] for irreps in (irreps_in, irreps_out))
    shared = [ir for ir in outputs if ir in inputs]
    # They are the leaves of a dict, which follow its keys "w[i,j] …" as strings: w[10,10] before w[2,2].
    for ir in sorted(shared, key=lambda ir: f"w[{inputs.index(ir)},{outputs.index(ir)}]"):
        shape = (*leading, irreps_in.count(ir), irreps_out.count(ir))
        weights[str(ir)].copy_(gain * (out_gains[ir] if out_gains else 1.0) * read(shape, f"{what}, {ir}"))
