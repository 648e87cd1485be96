"""Equivariant linear maps: one matrix per irrep, or one per irrep and species."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ase_equivariant.irreps import Block, Irreps, blocks

# The atoms of one species: (species index, their positions in the graph); see `group_by_species`.
SpeciesGroups = Sequence[tuple[int, Tensor]]


def group_by_species(species: Tensor) -> SpeciesGroups:
    """Split atoms by species, (N,) int64 → list of (species index, atoms of it)."""
    return [(int(s), torch.nonzero(species == s).squeeze(1)) for s in torch.unique(species)]


def _matching_blocks(irreps_in: Irreps, irreps_out: Irreps) -> list[tuple[Block | None, Block]]:
    """For each output block the input block of the same irrep, if there is one."""
    sources = {block.irrep: block for block in blocks(irreps_in)}
    return [(sources.get(block.irrep), block) for block in blocks(irreps_out)]


class Linear(nn.Module):
    """``out[n, m, v] = Σ_u x[n, m, u] W_lp[u, v] / √(fan-in)`` for every irrep (l, p).

    By Schur's lemma the only linear equivariant map between sums of irreps. Output irreps
    that the input does not contain are zero. Irreps are merged, each at most once.

    Parameters
    ----------
    irreps_in, irreps_out : Irreps
        Merged irreps; weights start standard normal.
    scalar_bias : bool
        Whether to add a constant, which starts at zero, to each even scalar: nothing else may have one.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, scalar_bias: bool = False):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(irreps_out.count("0e"), dtype=torch.float64)) if scalar_bias else None
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.matches = _matching_blocks(irreps_in, irreps_out)
        self.weights = nn.ParameterDict(
            {
                str(out.irrep): nn.Parameter(torch.randn(source.mul, out.mul, dtype=torch.float64))
                for source, out in self.matches
                if source is not None
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps_in.dim) to (N, irreps_out.dim)."""
        outputs = []
        for source, out in self.matches:
            if source is None:
                outputs.append(features.new_zeros(features.shape[0], out.mul * out.num_components))
                continue
            weight = self.weights[str(out.irrep)] * (1 / math.sqrt(source.mul))
            outputs.append((source.view(features) @ weight).flatten(1))
            if self.bias is not None and out.l == 0 and out.p == 1:
                outputs[-1] = outputs[-1] + self.bias
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


class SpeciesLinear(nn.Module):
    """A :class:`Linear` with its own matrices for each species, divided by √(fan-in · species).

    Equal to e3nn's fully connected tensor product of the features with the one-hot
    species, NequIP's self-connection.

    Parameters
    ----------
    irreps_in, irreps_out : Irreps
        Merged irreps.
    num_species : int
        How many species the model knows.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, num_species: int):
        super().__init__()
        self.irreps_in, self.irreps_out, self.num_species = irreps_in, irreps_out, num_species
        self.matches = _matching_blocks(irreps_in, irreps_out)
        self.weights = nn.ParameterDict(
            {
                str(out.irrep): nn.Parameter(torch.randn(num_species, source.mul, out.mul, dtype=torch.float64))
                for source, out in self.matches
                if source is not None
            }
        )

    def forward(self, features: Tensor, groups: SpeciesGroups) -> Tensor:
        """Map (N, irreps_in.dim) to (N, irreps_out.dim); ``groups`` from :func:`group_by_species`."""
        if len(groups) == 1:
            return self._one_species(features, groups[0][0])
        out = features.new_zeros(features.shape[0], self.irreps_out.dim)
        for species, atoms in groups:
            out = out.index_copy(0, atoms, self._one_species(features.index_select(0, atoms), species))
        return out

    def _one_species(self, features: Tensor, species: int) -> Tensor:
        outputs = []
        for source, out in self.matches:
            if source is None:
                outputs.append(features.new_zeros(features.shape[0], out.mul * out.num_components))
                continue
            weight = self.weights[str(out.irrep)][species] * (1 / math.sqrt(source.mul * self.num_species))
            outputs.append((source.view(features) @ weight).flatten(1))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
