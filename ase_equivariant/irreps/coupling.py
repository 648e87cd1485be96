"""Clebsch-Gordan coefficients of real harmonics, from their closed form."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> Tensor:
    """Real Clebsch-Gordan (Wigner 3j) coefficients of e3nn's basis, (2l1+1, 2l2+1, 2l3+1) float64, unit norm.

    ``C[a, b, c] = Σ U1[a, m1] U2[b, m2] U3*[c, m3] ⟨l1 m1 l2 m2 | l3 m3⟩ / √(2·l3+1)`` with the unitary
    matrices U of :func:`_real_from_complex`. Computed once; not to be changed in place.

    Raises
    ------
    ValueError
        If |l1−l2| ≤ l3 ≤ l1+l2 does not hold: nothing couples.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"l = {l1} and {l2} do not couple to {l3}")
    bases = [_real_from_complex(l) for l in (l1, l2, l3)]  # noqa: E741
    coupled = np.einsum("am,bn,ck,mnk->abc", bases[0], bases[1], bases[2].conj(), _complex_coefficients(l1, l2, l3))
    return torch.from_numpy(np.ascontiguousarray(coupled.real) / math.sqrt(2 * l3 + 1))


def _real_from_complex(l: int) -> np.ndarray:  # noqa: E741
    """Rows: real harmonics −l … l; columns: complex ones with the Condon-Shortley phase.

    The textbook's matrix times i^l, which makes all coefficients real, with e3nn's signs.
    """
    matrix = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    matrix[l, l] = 1.0
    for m in range(1, l + 1):
        sign = (-1) ** m
        matrix[l + m, [l + m, l - m]] = np.array([sign, 1.0]) / math.sqrt(2)
        matrix[l - m, [l - m, l + m]] = np.array([1.0, -sign]) * 1j / math.sqrt(2)
    return 1j**l * matrix


def _complex_coefficients(l1: int, l2: int, l3: int) -> np.ndarray:
    """⟨l1 m1 l2 m2 | l3 m3⟩ at [l1+m1, l2+m2, l3+m3] by Racah's formula, exact up to the last square root.

    G. Racah, Phys. Rev. 62, 438 (1942), doi:10.1103/PhysRev.62.438.
    """
    f = math.factorial
    result = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    triangle = Fraction(
        (2 * l3 + 1) * f(l1 + l2 - l3) * f(l1 - l2 + l3) * f(-l1 + l2 + l3),
        f(l1 + l2 + l3 + 1),
    )
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            m3 = m1 + m2
            factor = triangle * f(l1 + m1) * f(l1 - m1) * f(l2 + m2) * f(l2 - m2) * f(l3 + m3) * f(l3 - m3)
            total = Fraction(0)
            for k in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
                below = f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k) * f(l2 + m2 - k)
                total += Fraction((-1) ** k, below * f(l3 - l2 + m1 + k) * f(l3 - l1 - m2 + k))
            result[l1 + m1, l2 + m2, l3 + m3] = math.copysign(math.sqrt(factor * total**2), total)
    return result
