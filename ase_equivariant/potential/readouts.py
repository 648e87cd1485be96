"""Read-outs: from features of atoms to atomic quantities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ase_equivariant.irreps import Irreps, scalar_slice
from ase_equivariant.nn.mlp import ScalarMLP


class EnergyReadout(nn.Module):
    """Even scalars of each atom to its energy in units of the species' scale.

    Parameters
    ----------
    irreps_in : Irreps
        Merged irreps of the features; only the even scalars are read.
    hidden : sequence of int
        Hidden widths, with silu between; empty for the single linear map that the two
        linear read-out layers of the NequIP paper amount to.
    """

    def __init__(self, irreps_in: Irreps, hidden: Sequence[int] = ()):
        super().__init__()
        self.scalars = scalar_slice(irreps_in)
        self.mlp = ScalarMLP([irreps_in.count("0e"), *hidden, 1])

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps_in.dim) to (N,)."""
        return self.mlp(features[:, self.scalars]).squeeze(1)


def sum_over_structures(atomic: Tensor, batch: Tensor, num_structures: int) -> Tensor:
    """Sum (N, …) atomic values into (S, …) totals, in float64."""
    total = torch.zeros(num_structures, *atomic.shape[1:], dtype=torch.float64, device=atomic.device)
    return total.index_add(0, batch, atomic.to(torch.float64))
