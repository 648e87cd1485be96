"""Equivariant root-mean-square normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_equivariant.irreps import Irreps, blocks


class EquivariantRMSNorm(nn.Module):
    """Divide a node's features by their RMS over all irreps; every channel has a trainable scale.

    ``rms² = 1/B Σ_blocks mean_u 1/(2l+1) Σ_m x[m, u]²`` with B irreps, each counting the
    same whatever its degree. The norm of an irrep is invariant, so the layer is equivariant.

    Parameters
    ----------
    irreps : Irreps
        Merged irreps.
    epsilon : float
        Added to rms².

    References
    ----------
    Liao et al. (EquiformerV2), arXiv:2306.12059, separable layer normalization; the RMS form
    without centering is that of Nequix, arXiv:2508.16067.
    """

    def __init__(self, irreps: Irreps, epsilon: float = 1e-12):
        super().__init__()
        self.irreps, self.epsilon = irreps, epsilon
        self.blocks = blocks(irreps)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(b.mul, dtype=torch.float64)) for b in self.blocks)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps.dim) to the same shape."""
        views = [block.view(features) for block in self.blocks]
        mean_square = torch.stack([x.square().mean(dim=(1, 2)) for x in views]).mean(dim=0)
        inverse = torch.rsqrt(mean_square + self.epsilon).unsqueeze(1).unsqueeze(2)
        return torch.cat([(x * scale * inverse).flatten(1) for x, scale in zip(views, self.scales, strict=True)], dim=1)
