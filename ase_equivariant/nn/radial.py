"""Radial functions: smooth cutoffs and the Bessel basis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Threads that call MKL's vector mathematics together for the first time get 9 digits from it in one process of 500 or
# so (PyTorch's sine, exponential and others): this first call is one thread's alone.
torch.cos(torch.zeros(1, dtype=torch.float64, device="cpu"))


class PolynomialCutoff(nn.Module):
    """``1 − (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) − p(p+1)/2 x^(p+2)`` for x = r/cutoff < 1, else 0.

    Value, first and second derivative vanish at the cutoff.

    References
    ----------
    Gasteiger et al., arXiv:2003.03123, eq. (8).
    """

    def __init__(self, cutoff: float, p: float = 6.0):
        super().__init__()
        self.cutoff, self.p = cutoff, p

    def forward(self, r: Tensor) -> Tensor:
        """Map distances (E,) in Å to (E,)."""
        x, p = (r / self.cutoff).clamp(max=1.0), self.p  # 0 at x = 1, with vanishing derivatives
        falling = (p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x.square()
        return 1 - x.pow(p) * falling


class XPLORCutoff(nn.Module):
    """1 below ``onset``; ``(rc²−r²)²(rc²+2r²−3·ron²)/(rc²−ron²)³`` up to the cutoff rc; 0 beyond.

    Value and first derivative vanish at the cutoff.

    References
    ----------
    HOOMD-blue's XPLOR smoothing; used by SevenNet, arXiv:2402.03789.
    """

    def __init__(self, cutoff: float, onset: float):
        super().__init__()
        if not 0 <= onset < cutoff:
            raise ValueError(f"onset of the XPLOR cutoff is {onset} Å: choose it from 0 to below the cutoff {cutoff} Å")
        self.cutoff, self.onset = cutoff, onset

    def forward(self, r: Tensor) -> Tensor:
        """Map distances (E,) in Å to (E,)."""
        rc2, ron2 = self.cutoff**2, self.onset**2
        r2 = r.square().clamp(min=ron2, max=rc2)
        return (rc2 - r2).square() * (rc2 + 2 * r2 - 3 * ron2) / (rc2 - ron2) ** 3


class BesselBasis(nn.Module):
    """``2/cutoff · sin(k_n r)/r``, with wave numbers ``k_n`` that start at n·π/cutoff.

    Parameters
    ----------
    cutoff : float
        Å.
    num_radial : int
        Number of functions.
    trainable : bool
        Whether the wave numbers are fitted.

    References
    ----------
    Gasteiger et al., arXiv:2003.03123, eq. (7), with NequIP's prefactor.
    """

    def __init__(self, cutoff: float, num_radial: int = 8, trainable: bool = True):
        super().__init__()
        self.cutoff = cutoff
        wave_numbers = math.pi / cutoff * torch.arange(1, num_radial + 1, dtype=torch.float64)
        self.wave_numbers = nn.Parameter(wave_numbers, requires_grad=trainable)

    def forward(self, r: Tensor) -> Tensor:
        """Map distances (E,) in Å to (E, num_radial)."""
        r = r.unsqueeze(1)
        return 2 / self.cutoff * torch.sin(self.wave_numbers * r) / r
