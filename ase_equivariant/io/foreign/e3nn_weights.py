"""Weights in the order of e3nn's modules, taken apart into one matrix for each irrep.

e3nn's irreps may list an irrep more than once and in any order; ours have each once, sorted. Channels of
an irrep are numbered through its occurrences, on both sides alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ase_equivariant.architectures.nequip import NequIPLayer
from ase_equivariant.irreps import Irrep, Irreps, blocks
from ase_equivariant.kernels import ConvPlan

# A channel of a tensor product: irrep it leads to, irrep it comes from, number there, degree of the harmonic.
Channel = tuple[Irrep, Irrep, int, int]


def num_linear_weights(irreps_in: Irreps, irreps_out: Irreps, between: tuple[int, ...] = ()) -> int:
    """How many weights e3nn's ``Linear`` (or, with ``between``, ``FullyConnectedTensorProduct``) has."""
    return sum(math.prod((a, *between, b)) for a, ir in irreps_in for b, other in irreps_out if ir == other)


def linear_matrices(
    flat: Tensor, irreps_in: Irreps, irreps_out: Irreps, between: tuple[int, ...] = ()
) -> dict[Irrep, Tensor]:
    """One matrix (inputs, …, outputs) for each irrep, of a flat tensor that has them block by block."""
    pairs = [(a, b) for a in blocks(irreps_in) for b in blocks(irreps_out) if a.irrep == b.irrep]
    shapes = [(a.mul, *between, b.mul) for a, b in pairs]
    pieces = flat.split([math.prod(shape) for shape in shapes])
    rows: dict[Irrep, dict[int, list[Tensor]]] = {}
    for (a, _), shape, piece in zip(pairs, shapes, pieces, strict=True):
        rows.setdefault(a.irrep, {}).setdefault(a.offset, []).append(piece.reshape(shape))
    return {ir: torch.cat([torch.cat(row, dim=-1) for row in by_row.values()]) for ir, by_row in rows.items()}


def copy_matrices(weights: nn.ParameterDict, matrices: dict[Irrep, Tensor], even_columns: Tensor | None = None) -> None:
    """Fill a linear layer of ours; ``even_columns`` says which of the file's even scalars comes where."""
    for key, weight in weights.items():
        matrix = matrices[Irrep(key)]
        reorder = even_columns is not None and key == "0e"
        weight.copy_(matrix[..., even_columns] if reorder else matrix)


def gate_columns(layer: NequIPLayer, gated: Irreps) -> Tensor:
    """Where ours has which of the even scalars that enter the gate: gates are in the order of ``gated`` there."""
    theirs: dict[tuple[Irrep, int], int] = {}
    counts: dict[Irrep, int] = {}
    for mul, ir in gated:
        for _ in range(mul):
            counts[ir] = counts.get(ir, -1) + 1
            theirs[ir, counts[ir]] = len(theirs)
    ours = [(block.irrep, u) for block in blocks(layer.gate.irreps_out) if block.l > 0 for u in range(block.mul)]
    num_scalars = layer.gate.num_scalars
    return torch.tensor([*range(num_scalars), *(num_scalars + theirs[channel] for channel in ours)], dtype=torch.int64)


def product_channels(features: Irreps, harmonics: Irreps, kept: set[Irrep]) -> Iterator[Channel]:
    """Channels of e3nn's "uvu" product in the order in which loops over features and harmonics meet them."""
    before: dict[Irrep, int] = {}
    for mul, source in features:
        first = before.get(source, 0)
        before[source] = first + mul
        for _, harmonic in harmonics:
            for ir in source * harmonic:
                if ir in kept:
                    yield from ((ir, source, u, harmonic.l) for u in range(first, first + mul))


def our_channels(plan: ConvPlan) -> list[Channel]:
    """Channels of our product in the order of our weights."""
    return [
        (path.out.irrep, path.source.irrep, u, path.harmonic.l) for path in plan.paths for u in range(path.source.mul)
    ]
