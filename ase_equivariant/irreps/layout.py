"""How features lie in memory: **component-major** inside each irrep.

Features are ``(N, Σ mul·(2l+1))``; the element of multiplicity u and component m lies at
``offset + m·mul + u``. A linear layer is then one matrix product per l, and kernels
vectorize over u. e3nn's own order is multiplicity-major, ``offset + u·(2l+1) + m``; the
two functions at the end convert.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ase_equivariant.irreps.irreps import Irrep, Irreps


@dataclass(frozen=True)
class Block:
    """One irrep of a feature: ``mul`` copies of (l, p), stored from ``offset`` on."""

    mul: int
    l: int  # noqa: E741 - the field's name for the degree
    p: int
    offset: int

    @property
    def num_components(self) -> int:
        """2l+1."""
        return 2 * self.l + 1

    @property
    def slice(self) -> slice:
        """Where the block lies in the last dimension of a feature."""
        return slice(self.offset, self.offset + self.mul * self.num_components)

    @property
    def irrep(self) -> Irrep:
        """The irrep (l, p)."""
        return Irrep(self.l, self.p)

    def view(self, features: Tensor) -> Tensor:
        """The block of ``features`` (N, dim) as (N, 2l+1, mul)."""
        return features[:, self.slice].unflatten(1, (self.num_components, self.mul))


def blocks(irreps: Irreps) -> tuple[Block, ...]:
    """Blocks of ``irreps`` in the order they are stored."""
    result, offset = [], 0
    for mul, ir in irreps:
        result.append(Block(mul, ir.l, ir.p, offset))
        offset += mul * ir.dim
    return tuple(result)


def scalar_slice(irreps: Irreps) -> slice:
    """Where the even scalars lie in features of merged ``irreps``: behind the odd ones (0o sorts before 0e)."""
    return next((block.slice for block in blocks(irreps) if block.l == 0 and block.p == 1), slice(0, 0))


def from_e3nn_layout(features: Tensor, irreps: Irreps) -> Tensor:
    """Reorder (…, dim) from e3nn's multiplicity-major order to ours."""
    parts = []
    for block in blocks(irreps):
        part = features[..., block.slice].unflatten(-1, (block.mul, block.num_components))
        parts.append(part.transpose(-1, -2).flatten(-2))
    return torch.cat(parts, dim=-1)


def to_e3nn_layout(features: Tensor, irreps: Irreps) -> Tensor:
    """Reorder (…, dim) from our component-major order to e3nn's."""
    parts = []
    for block in blocks(irreps):
        part = features[..., block.slice].unflatten(-1, (block.num_components, block.mul))
        parts.append(part.transpose(-1, -2).flatten(-2))
    return torch.cat(parts, dim=-1)
