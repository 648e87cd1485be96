"""Check that a function is equivariant."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ase_equivariant.irreps import Irreps, blocks, from_e3nn_layout, random_rotation, to_e3nn_layout, wigner_d


def assert_equivariant(
    fn: Callable[..., Tensor],
    irreps_in: Irreps | str,
    irreps_out: Irreps | str,
    *,
    positions: Tensor | None = None,
    inversion: bool = True,
    tolerance: float | None = None,
    num_rows: int = 8,
    num_rotations: int = 3,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    e3nn_layout: bool = False,
) -> float:
    r"""Check ``fn(D_in(R) x, R r) = D_out(R) fn(x, r)`` for random features x and operations R.

    Parameters
    ----------
    fn : callable
        ``fn(features)``, or ``fn(features, positions)`` if positions are given: (N, irreps_in.dim) and
        (N, 3) to (M, irreps_out.dim). A module, a lambda, anything that can be called.
    irreps_in, irreps_out : Irreps or str
        How features and result turn.
    positions : Tensor, optional
        (N, 3), turned as polar vectors.
    inversion : bool
        Whether rotations times the inversion, hence all of O(3), are tried too.
    tolerance : float, optional
        Largest difference allowed, relative to the largest absolute value of the result; by default 1e-10, and 1e-4 for
        less than float64.
    num_rows : int
        N if no positions are given.
    num_rotations, seed : int
        How many random rotations, and of which random numbers.
    dtype : torch.dtype, optional
        Of the features and positions given to ``fn``; by default a module's own, else float64.
    e3nn_layout : bool
        Whether features are multiplicity-major as e3nn's, rather than component-major
        (:mod:`ase_equivariant.irreps.layout`).

    Returns
    -------
    float
        The largest violation found.

    Raises
    ------
    AssertionError
        If it is larger than ``tolerance`` or not finite; names the operation and the irrep that turns wrongly. If a
        result has no rows, another number of them than the first, or another number of components than irreps_out.
    """
    irreps_in, irreps_out = Irreps(irreps_in), Irreps(irreps_out)
    dtype = _dtype_of(fn) if dtype is None else dtype
    if tolerance is None:
        tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    generator = torch.Generator().manual_seed(seed)
    num_rows = num_rows if positions is None else len(positions)
    ask = _in_float64(fn, irreps_in, irreps_out, dtype, e3nn_layout)
    features = torch.randn(num_rows, irreps_in.dim, generator=generator, dtype=torch.float64)
    places = None if positions is None else positions.to(torch.float64)
    expected = ask(features, places)
    if not len(expected):
        raise AssertionError("the result has no rows, so that nothing can be compared")
    scale = _largest(expected) or 1.0
    worst, culprit = 0.0, ""
    for rotation in (random_rotation(generator) for _ in range(num_rotations)):
        for sign in (1, -1) if inversion else (1,):
            matrix = sign * rotation
            result = ask(turn_features(features, irreps_in, matrix), None if places is None else places @ matrix.T)
            if result.shape != expected.shape:
                raise AssertionError(f"a result has {len(result)} rows, the first one had {len(expected)}")
            difference = (result - turn_features(expected, irreps_out, matrix)) / scale
            for block in blocks(irreps_out):
                violation = _largest(difference[:, block.slice])
                name = f"{block.irrep} under a rotation{' with inversion' if sign < 0 else ''}"
                if not math.isfinite(violation):
                    raise AssertionError(f"not equivariant: {name} is wrong by {violation}, as a result is not finite")
                if violation > worst:
                    worst, culprit = violation, name
    if worst > tolerance:
        raise AssertionError(f"not equivariant: {culprit} is wrong by {worst:.2e} relative, allowed is {tolerance:.0e}")
    return worst


def _dtype_of(fn: object) -> torch.dtype:
    parameters = fn.parameters() if isinstance(fn, torch.nn.Module) else ()
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.float64)


def _in_float64(
    fn: Callable[..., Tensor], irreps_in: Irreps, irreps_out: Irreps, dtype: torch.dtype, e3nn_layout: bool
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """``fn`` as a function of component-major float64 features and, perhaps, positions."""

    def ask(features: Tensor, positions: Tensor | None) -> Tensor:
        given = (to_e3nn_layout(features, irreps_in) if e3nn_layout else features).to(dtype)
        result = (fn(given) if positions is None else fn(given, positions.to(dtype))).to(torch.float64)
        if result.ndim != 2:
            raise AssertionError(f"the result should be rows of components, it has the shape {tuple(result.shape)}")
        if result.shape[-1] != irreps_out.dim:
            raise AssertionError(f"the result has {result.shape[-1]} components, {irreps_out} has {irreps_out.dim}")
        return from_e3nn_layout(result, irreps_out) if e3nn_layout else result

    return ask


def turn_features(features: Tensor, irreps: Irreps | str, matrix: Tensor) -> Tensor:
    """``D(R) x`` of component-major features (N, irreps.dim), for an orthogonal matrix R (3, 3) in float64."""
    inverts = bool(torch.linalg.det(matrix) < 0)
    parts = []
    for block in blocks(Irreps(irreps)):
        representation = wigner_d(block.l, -matrix if inverts else matrix) * (block.p if inverts else 1)
        parts.append(torch.einsum("ab,nbu->nau", representation.to(features.dtype), block.view(features)).flatten(1))
    return torch.cat(parts, dim=1)


def _largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0
