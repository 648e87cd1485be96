"""Products of a row with itself, and their gradients, component by component, for ``csrc/square.h``."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_equivariant.kernels.network import SquareTerm
from ase_equivariant.potential.padding import PaddedBlock

# Places of two factors and of what their product is added to.
_Terms = dict[tuple[int, int, int], float]


def square_terms(
    couplings: Tensor, first: PaddedBlock, second: PaddedBlock, out: PaddedBlock
) -> tuple[list[SquareTerm], list[SquareTerm]]:
    """Terms of ``out_c += Σ_ab couplings[c, a, b] first_a second_b``, and of the gradients by both factors.

    Where both are one block, x_a x_b and x_b x_a are one term. The gradients' first factors are components of the
    gradient by ``out``. Terms that add to the same place stand together.
    """
    forward: _Terms = {}
    backward: _Terms = {}
    for c, a, b in torch.nonzero(couplings).tolist():
        x, y, z = first.offset + a * first.width, second.offset + b * second.width, out.offset + c * out.width
        value = float(couplings[c, a, b])
        for terms, key in ((forward, (min(x, y), max(x, y), z)), (backward, (z, y, x)), (backward, (z, x, y))):
            terms[key] = terms.get(key, 0.0) + value
    return _listed(forward), _listed(backward)


def _listed(terms: _Terms) -> list[SquareTerm]:
    by_place = sorted(terms.items(), key=lambda item: (item[0][2], item[0]))
    return [SquareTerm(*places, value) for places, value in by_place]
