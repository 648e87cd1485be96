"""Real spherical harmonics by Clebsch-Gordan recursion."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ase_equivariant.irreps import Irreps, clebsch_gordan
from ase_equivariant.kernels import Constants


class SphericalHarmonics(Constants):
    """Y_0 … Y_lmax of unit vectors, in e3nn's basis and order, component-normalized (|Y_l|² = 2l+1).

    Each degree follows from the one before,
    ``Y_l[m] = c_l · Σ_{a,b} C[1 a, l−1 b, l m] Y_1[a] Y_{l−1}[b]``,
    with c_l fixed by the value at the pole (e3nn's polar axis is y). Polynomials only,
    so every derivative exists at every unit vector.

    Parameters
    ----------
    l_max : int
        Highest degree.
    parity : bool
        Whether ``irreps`` carries the parity (−1)^l (polar vectors are odd); if not, all
        harmonics count as even and the network is equivariant to proper rotations only.
    """

    def __init__(self, l_max: int, parity: bool = True):
        super().__init__()
        self.l_max = l_max
        self.irreps = Irreps([(1, (l, (-1) ** l if parity else 1)) for l in range(l_max + 1)])  # noqa: E741
        at_pole = math.sqrt(3) * torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        previous = at_pole
        for l in range(2, l_max + 1):  # noqa: E741
            step = clebsch_gordan(1, l - 1, l).flatten(0, 1)
            value = torch.outer(at_pole, previous).flatten() @ step
            step = step * (math.sqrt(2 * l + 1) / value[l])
            previous = torch.outer(at_pole, previous).flatten() @ step
            self.add_constant(f"step_{l}", step)

    def forward(self, unit_vectors: Tensor) -> Tensor:
        """Map (E, 3) unit vectors to (E, (l_max+1)²) harmonics; other vectors to solid harmonics r^l Y_l."""
        degrees = [torch.ones_like(unit_vectors[:, :1])]
        if self.l_max >= 1:
            first = math.sqrt(3) * unit_vectors
            degrees.append(first)
        for l in range(2, self.l_max + 1):  # noqa: E741
            product = first.unsqueeze(2) * degrees[-1].unsqueeze(1)
            degrees.append(product.flatten(1) @ getattr(self, f"step_{l}"))
        return torch.cat(degrees, dim=1)
