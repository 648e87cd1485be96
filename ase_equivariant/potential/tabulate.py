"""Radial networks as tables: piecewise polynomials of the distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ZERO, _NEAREST = 1e-3, 0.5  # Å; closer than the latter no two atoms are, and errors are not looked at
_BONDED = 1.0  # Å; weights grow a hundredfold below it, where few atoms are: what they are there excuses nothing beyond
_MAX_DENOMINATOR = 200  # of breakpoint/cutoff, so that breakpoints fall on knots


class TabulationError(ValueError):
    """A radial function cannot be tabulated within the bound."""


@dataclass(frozen=True)
class RadialTable:
    """Polynomials in the position t = 0 … 1 within each of K equal intervals of 0 … cutoff.

    Attributes
    ----------
    coefficients : numpy.ndarray
        (K, degree+1, W), ascending powers of t, float64.
    value_error, slope_error : float
        Largest deviation of a weight, and of its derivative (1/Å), from the exact one beyond 0.5 Å, relative to
        the largest weight and the largest derivative at that distance or beyond (at 1 Å or beyond, for those beyond).
    """

    coefficients: NDArray[np.float64]
    value_error: float
    slope_error: float


def tabulate(
    radial: Callable[[Tensor], Tensor],
    cutoff: float,
    num_intervals: int,
    degree: int,
    breakpoints: tuple[float, ...] = (),
) -> RadialTable:
    """Tabulate W smooth functions of the distance.

    Degree 3 gives the C² cubic spline with the exact slope at both ends; degree 5 the C² quintic that
    matches value, slope and curvature at every knot. At a breakpoint, where the functions themselves
    have a kink in their curvature, so has the table.

    Parameters
    ----------
    radial : callable
        Distances (R,) in Å, float64, to weights (R, W); differentiable.
    cutoff : float
        Å, the end of the table; it starts at 0.
    num_intervals : int
        A multiple of :func:`knot_unit`.
    degree : {3, 5}
        Of the polynomials.
    breakpoints : tuple of float
        Å, inside 0 … cutoff.
    """
    h = cutoff / num_intervals
    pieces, start = [], 0
    for stop in [round(point / h) for point in breakpoints] + [num_intervals]:
        # One-sided at the ends of a piece, inside of which alone the functions are smooth; and sin(kr)/r is not
        # evaluated at 0, but continued from close by.
        r = h * torch.arange(start, stop + 1, dtype=torch.float64)
        r[0] += _ZERO if start == 0 else 1e-12 * cutoff
        r[-1] -= 1e-12 * cutoff
        value, slope, curvature = _derivatives(radial, r, 2)
        if start == 0:
            value[0] += -_ZERO * slope[0] + _ZERO**2 / 2 * curvature[0]
            slope[0] -= _ZERO * curvature[0]
        pieces.append(_cubic(value, slope * h) if degree == 3 else _quintic(value, slope * h, curvature * h * h))
        start = stop
    coefficients = np.concatenate(pieces)
    return RadialTable(coefficients, *_errors(radial, coefficients, h))


def knot_unit(cutoff: float, breakpoints: tuple[float, ...]) -> int:
    """Smallest number of equal intervals of 0 … cutoff that has every breakpoint on a knot."""
    unit = 1
    for point in breakpoints:
        ratio = Fraction(point / cutoff).limit_denominator(_MAX_DENOMINATOR)
        if abs(float(ratio) - point / cutoff) > 1e-9:
            raise TabulationError(f"{point} Å is no simple fraction of the cutoff {cutoff} Å")
        unit = int(np.lcm(unit, ratio.denominator))
    return unit


def _derivatives(radial: Callable[[Tensor], Tensor], r: Tensor, order: int) -> list[NDArray]:
    """Value, slope, curvature … (R, W) up to ``order``: each function depends on its own distance only."""
    with torch.enable_grad():
        r = r.detach().requires_grad_(order > 0)
        found = [radial(r)]
        for k in range(order):
            found.append(_slope(found[-1], r, last=k + 1 == order))
    return [values.detach().numpy() for values in found]


def _slope(value: Tensor, r: Tensor, last: bool) -> Tensor:
    """d value[k, w] / d r[k] for all w at once: v·(dvalue/dr) is linear in v, and its gradient by v is wanted."""
    v = torch.zeros_like(value).requires_grad_(True)
    (product,) = torch.autograd.grad(value, r, v, create_graph=True)
    (slope,) = torch.autograd.grad(product.sum(), v, create_graph=not last)
    return slope


def _quintic(value: NDArray, slope: NDArray, curvature: NDArray) -> NDArray:
    """Hermite polynomials from value and derivatives by t at both ends of each interval."""
    f0, f1, d0, d1, c0, c1 = value[:-1], value[1:], slope[:-1], slope[1:], curvature[:-1], curvature[1:]
    rise = f1 - f0 - d0 - c0 / 2
    tilt = d1 - d0 - c0
    bend = c1 - c0
    third = 10 * rise - 4 * tilt + bend / 2
    fourth = -15 * rise + 7 * tilt - bend
    fifth = 6 * rise - 3 * tilt + bend / 2
    return np.stack([f0, d0, c0 / 2, third, fourth, fifth], axis=1)


def _cubic(value: NDArray, slope: NDArray) -> NDArray:
    """C² spline with the given slopes (by t) at both ends; the others follow from the continuity of curvature."""
    d = slope.copy()
    n = len(value) - 1
    if n > 1:
        # d[k-1] + 4 d[k] + d[k+1] = 3 (f[k+1] - f[k-1]), by elimination
        right = 3 * (value[2:] - value[:-2])
        right[0] -= d[0]
        right[-1] -= d[-1]
        diagonal = np.empty(n - 1)
        diagonal[0] = 4
        for k in range(1, n - 1):
            factor = 1 / diagonal[k - 1]
            diagonal[k] = 4 - factor
            right[k] -= factor * right[k - 1]
        d[n - 1] = right[-1] / diagonal[-1]
        for k in range(n - 3, -1, -1):
            d[k + 1] = (right[k] - d[k + 2]) / diagonal[k]
    f0, f1, d0, d1 = value[:-1], value[1:], d[:-1], d[1:]
    return np.stack([f0, d0, 3 * (f1 - f0) - 2 * d0 - d1, 2 * (f0 - f1) + d0 + d1], axis=1)


def _errors(radial: Callable[[Tensor], Tensor], coefficients: NDArray, h: float) -> tuple[float, float]:
    """Relative errors of value and slope at points between the knots."""
    num_intervals = len(coefficients)
    intervals = np.arange(min(math.ceil(_NEAREST / h), num_intervals // 2), num_intervals)
    bonded = min(math.ceil(_BONDED / h), num_intervals // 2) - intervals[0]
    chosen, powers = coefficients[intervals], np.arange(coefficients.shape[1])

    def error(t: float, order: int) -> float:
        exact = _derivatives(radial, torch.from_numpy((intervals + t) * h), order)[order]
        factors = t**powers if order == 0 else powers * t ** np.maximum(powers - 1, 0) / h
        deviation = np.abs(np.tensordot(factors, chosen, (0, 1)) - exact).max(axis=1)
        beyond = np.maximum.accumulate(np.abs(exact).max(axis=1)[::-1])[::-1]  # largest from each distance on
        beyond[bonded:] = beyond[bonded]
        return float((deviation / np.maximum(beyond, np.finfo(np.float64).tiny)).max())

    # Where the cubic's errors are largest: of the value in the middle, of the slope at either side of it.
    return error(0.5, 0), max(error(0.2113, 1), error(0.7887, 1))
