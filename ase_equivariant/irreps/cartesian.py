"""Symmetric tensors in Cartesian components, from irreps and back; those of 1o are x, y, z already, as in e3nn."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from ase_equivariant.irreps.coupling import clebsch_gordan


def symmetric_to_cartesian(scalar: Tensor, traceless: Tensor) -> Tensor:
    """``s·1 + Σ_m B_m t_m``: (…) and l = 2 components (…, 5) as symmetric tensors (…, 3, 3).

    s is a third of the trace. The B_m are orthonormal, Σ_ab (B_m)_ab (B_n)_ab = δ_mn.
    """
    basis = _traceless_basis().to(traceless)
    unit = torch.eye(3, dtype=traceless.dtype, device=traceless.device)
    return scalar[..., None, None] * unit + torch.einsum("...m,mab->...ab", traceless, basis)


def symmetric_from_cartesian(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`symmetric_to_cartesian`: (…, 3, 3) to (…) and (…, 5); the antisymmetric part is lost."""
    basis = _traceless_basis().to(tensor)
    return tensor.diagonal(dim1=-2, dim2=-1).mean(-1), torch.einsum("...ab,mab->...m", tensor, basis)


@cache
def _traceless_basis() -> Tensor:
    """(5, 3, 3) float64, from the coupling of two vectors to l = 2."""
    return (math.sqrt(5) * clebsch_gordan(1, 1, 2)).permute(2, 0, 1).contiguous()
