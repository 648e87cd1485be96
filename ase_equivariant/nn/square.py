"""Products of an atom's features with themselves: one more order of correlation between its neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ase_equivariant.irreps import Block, Irreps, blocks, clebsch_gordan
from ase_equivariant.kernels import Constants
from ase_equivariant.nn.linear import Linear


class SquarePath(NamedTuple):
    """The product of two blocks of features that goes to a third, channel by channel, in the channels all have."""

    first: Block
    second: Block
    out: Block
    channels: int
    weight_offset: int


def square_paths(irreps_in: Irreps, irreps_out: Irreps) -> tuple[SquarePath, ...]:
    """Every product of two irreps of ``irreps_in``, each pair once, that is in ``irreps_out``.

    That of an irrep with itself is symmetric: it has the even degrees only (x × x = 0).
    """
    paths, offset, sources, outs = [], 0, blocks(irreps_in), blocks(irreps_out)
    for k, first in enumerate(sources):
        for second in sources[k:]:
            for out in outs:
                if out.irrep not in first.irrep * second.irrep or (first == second and out.l % 2):
                    continue
                channels = min(first.mul, second.mul, out.mul)
                paths.append(SquarePath(first, second, out, channels, offset))
                offset += channels
    return tuple(paths)


class SquareCouplings(Constants):
    """For every path Clebsch-Gordan coefficients, (2·l3+1, (2·l1+1)·(2·l2+1)), times √(2·l3+1 / paths to l3)."""

    def __init__(self, paths: tuple[SquarePath, ...]):
        super().__init__()
        self._count = len(paths)
        for k, path in enumerate(paths):
            together = sum(other.out == path.out for other in paths)
            coupled = clebsch_gordan(path.first.l, path.second.l, path.out.l).permute(2, 0, 1).flatten(1)
            self.add_constant(f"path_{k}", math.sqrt(path.out.num_components / together) * coupled)

    def __iter__(self) -> Iterator[Tensor]:
        return (getattr(self, f"path_{k}") for k in range(self._count))


class TensorSquare(nn.Module):
    """``x → x + L( Σ_paths w_u (x_l1,u ⊗ x_l2,u)_l3 )`` for every channel u.

    A message sums over neighbours, so its square holds pairs of them, as the product basis of the atomic cluster
    expansion does, which goes on to triples; here the next layer does.

    Parameters
    ----------
    irreps : Irreps
        Merged irreps of features with their gates (``Gate.irreps_in``).
    irreps_squared : Irreps
        Merged irreps of the features alone (``Gate.irreps_out``): gates, the last of the even scalars, are no factors.

    References
    ----------
    Drautz, Phys. Rev. B 99, 014104 (2019), eqs. (24)-(27); Batatia et al. (MACE), arXiv:2206.07697, eq. (10).
    """

    def __init__(self, irreps: Irreps, irreps_squared: Irreps):
        super().__init__()
        self.irreps_squared = irreps_squared
        self.paths = square_paths(irreps_squared, irreps_squared)
        self.couplings = SquareCouplings(self.paths)
        self.weights = nn.Parameter(torch.randn(sum(path.channels for path in self.paths), dtype=torch.float64))
        self.linear = Linear(irreps_squared, irreps)
        self._sources = blocks(irreps)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps.dim) to (N, irreps.dim)."""
        return features + self.linear(self.square(features))

    def square(self, features: Tensor) -> Tensor:
        """The weighted products, (N, irreps_squared.dim)."""
        sources = {block.irrep: block.view(features) for block in self._sources}
        sums = [features.new_zeros(len(features), b.num_components, b.mul) for b in blocks(self.irreps_squared)]
        places = {block.irrep: k for k, block in enumerate(blocks(self.irreps_squared))}
        for path, couplings in zip(self.paths, self.couplings, strict=True):
            u = path.channels
            weights = self.weights[path.weight_offset : path.weight_offset + u]
            first, second = sources[path.first.irrep][..., :u] * weights, sources[path.second.irrep][..., :u]
            outer = (first.unsqueeze(2) * second.unsqueeze(1)).flatten(1, 2)
            product = torch.matmul(couplings, outer)
            k = places[path.out.irrep]
            sums[k] = sums[k] + torch.nn.functional.pad(product, (0, path.out.mul - u))
        return torch.cat([part.flatten(1) for part in sums], dim=1)
