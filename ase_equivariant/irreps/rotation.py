"""Rotations and how irreps turn under them."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_equivariant.irreps.coupling import clebsch_gordan


def wigner_d(degree: int, rotation: Tensor) -> Tensor:
    """Matrix D_l (2l+1, 2l+1) float64 by which the irrep of degree l turns, in e3nn's basis.

    ``D_l = (2l+1) Cᵀ (D_1 ⊗ D_(l−1)) C`` with D_1 = R; e3nn's own are exact to 1e-7 only.

    Parameters
    ----------
    degree : int
        l.
    rotation : Tensor
        (3, 3), proper; for a rotation with inversion give its negative and multiply the result by the parity.
    """
    if degree == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    rotation = rotation.to(torch.float64)
    matrix = rotation
    for l in range(2, degree + 1):  # noqa: E741
        coupling = clebsch_gordan(1, l - 1, l)
        matrix = (2 * l + 1) * torch.einsum("abm,ac,bd,cdn->mn", coupling, rotation, matrix, coupling)
    return matrix


def random_rotation(generator: torch.Generator | None = None) -> Tensor:
    """A uniformly distributed rotation (3, 3) float64, from torch's random numbers if no others are given."""
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * torch.diagonal(r).sign()  # QR by itself prefers one sign
    return q * torch.linalg.det(q)
