"""Check that a function is equivariant."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import chain
from operator import index
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_equivariant.irreps import Irreps, blocks, from_e3nn_layout, random_rotation, to_e3nn_layout, wigner_d
from ase_equivariant.precision import parse_dtype

# What is zero by symmetry is rounding: this much of the tolerance is put on features and positions to see how much, and
# so many times as much is allowed as comes of it.
_NOISE, _ALLOWANCE, _NUM_NOISES = 1e-3, 100, 3


def assert_equivariant(
    fn: Callable[..., Tensor | NDArray[Any]],
    irreps_in: Irreps | str,
    irreps_out: Irreps | str,
    *,
    positions: Tensor | NDArray[Any] | None = None,
    inversion: bool = True,
    tolerance: float | None = None,
    num_rows: int = 8,
    num_rotations: int = 3,
    seed: int = 0,
    dtype: torch.dtype | str | None = None,
    e3nn_layout: bool = False,
) -> float:
    r"""Check ``fn(D_in(R) x, R r) = D_out(R) fn(x, r)`` for random features x and operations R.

    Parameters
    ----------
    fn : callable
        ``fn(features)``, or ``fn(features, positions)`` if positions are given: tensors (N, irreps_in.dim) and
        (N, 3) to a tensor or array (M, irreps_out.dim). A module, a lambda, anything that can be called; it may work
        in place, as each call is given copies.
    irreps_in, irreps_out : Irreps or str
        How features and result turn. For a function of positions only ``irreps_in`` is "", and features are (N, 0).
    positions : Tensor or array, optional
        (N, 3), turned as polar vectors; not changed.
    inversion : bool
        Whether rotations times the inversion, hence all of O(3), are tried too.
    tolerance : float, optional
        Largest difference allowed, relative to the largest absolute value of the same irreps in the result, each term
        of ``irreps_out`` on its own scale, unless it is what rounding leaves of larger numbers; by default 1e-10, and
        1e-4 where features or result are less than float64. Infinity to measure only.
    num_rows : int
        N if no positions are given.
    num_rotations, seed : int
        How many random rotations, and of which random numbers.
    dtype : torch.dtype, "float32" or "float64", optional
        Of the features and positions given to ``fn``; by default a module's own, else float64. They are on a module's
        own device, else on the CPU.
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
        result has no rows, another number of them than the first, another number of components than irreps_out, is
        complex, or is neither a tensor nor an array.
    ValueError
        If the arguments leave nothing to compare, or are not what they should be.
    """
    if not callable(fn):
        raise ValueError(f"fn should be a function or a module, it is {fn!r:.60}")
    irreps_in, irreps_out = _irreps("irreps_in", irreps_in), _irreps("irreps_out", irreps_out)
    if dtype is None:
        dtype = _dtype_of(fn)
    elif isinstance(dtype, str):
        dtype = parse_dtype(dtype)
    _refuse_what_is_no_number(tolerance, num_rows=num_rows, num_rotations=num_rotations, seed=seed)
    places = None if positions is None else _places(positions)
    num_rows = num_rows if places is None else len(places)
    _refuse_what_compares_nothing(irreps_in, irreps_out, places, tolerance, num_rows, num_rotations, dtype)
    generator = torch.Generator().manual_seed(seed)
    precisions = {dtype}
    ask = _in_float64(fn, irreps_in, irreps_out, dtype, e3nn_layout, precisions)
    features = torch.randn(num_rows, irreps_in.dim, generator=generator, dtype=torch.float64)
    expected = ask(features, places)
    if not len(expected):
        raise AssertionError("the result has no rows, so that nothing can be compared")
    rounding = max(torch.finfo(precision).eps for precision in precisions)
    allowed = tolerance if tolerance is not None else 1e-10 if rounding <= torch.finfo(torch.float64).eps else 1e-4

    @cache  # most need it not
    def noise() -> Tensor:
        return _noise(ask, features, irreps_in, places, expected, max(_NOISE * allowed, rounding))

    worst, culprit = 0.0, ""
    for rotation in (random_rotation(generator) for _ in range(num_rotations)):
        for sign in (1, -1) if inversion else (1,):
            matrix = sign * rotation
            result = ask(turn_features(features, irreps_in, matrix), None if places is None else places @ matrix.T)
            if result.shape != expected.shape:
                raise AssertionError(f"a result has {len(result)} rows, the first one had {len(expected)}")
            difference = result - turn_features(expected, irreps_out, matrix)
            for block in blocks(irreps_out):
                wrong = _largest(difference[:, block.slice])
                size = max(_largest(expected[:, block.slice]), _largest(result[:, block.slice]))
                violation = wrong / size if wrong else 0.0
                if violation > allowed and allowed:
                    # Nothing is allowed that is wrong on the scale of the whole result.
                    noisy = _ALLOWANCE * _largest(noise()[:, block.slice]) / allowed
                    violation = wrong / max(size, min(_largest(expected) or 1.0, noisy))
                name = f"{block.irrep} under a rotation{' with inversion' if sign < 0 else ''}"
                if not math.isfinite(violation):
                    raise AssertionError(f"not equivariant: {name} is wrong by {violation}, as a result is not finite")
                if violation > worst:
                    worst, culprit = violation, name
    if worst > allowed:
        raise AssertionError(f"not equivariant: {culprit} is wrong by {worst:.2e} relative, allowed is {allowed:.0e}")
    return worst


def _dtype_of(fn: object) -> torch.dtype:
    parameters = fn.parameters() if isinstance(fn, torch.nn.Module) else ()
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.float64)


def _device_of(fn: object) -> torch.device:
    tensors = chain(fn.parameters(), fn.buffers()) if isinstance(fn, torch.nn.Module) else ()
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _irreps(name: str, irreps: Irreps | str) -> Irreps:
    try:
        return Irreps(irreps)
    except TypeError:
        raise ValueError(f"{name} should be irreps, such as '8x0e+4x1o', it is {irreps!r:.60}") from None


def _refuse_what_is_no_number(tolerance: object, **whole: Any) -> None:
    for name, value in whole.items():
        try:
            index(value)  # NumPy's integers are whole numbers, too
        except TypeError:
            raise ValueError(f"{name} should be a whole number, it is {value!r:.60}") from None
    if not (tolerance is None or isinstance(tolerance, int | float | np.number)):
        raise ValueError(f"tolerance should be a number, it is {tolerance!r:.60}")


def _places(positions: object) -> Tensor:
    """As float64, on the CPU."""
    try:
        places = torch.as_tensor(positions)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"positions should be a tensor or an array (N, 3), not {type(positions).__name__}") from None
    if places.ndim != 2 or places.shape[1] != 3 or places.is_complex():
        kind = f"{str(places.dtype).removeprefix('torch.')} {tuple(places.shape)}"
        raise ValueError(f"positions should be real numbers of the shape (N, 3), they are {kind}")
    return places.detach().to("cpu", torch.float64)


def _refuse_what_compares_nothing(
    irreps_in: Irreps,
    irreps_out: Irreps,
    places: Tensor | None,
    tolerance: float | None,
    num_rows: int,
    num_rotations: int,
    dtype: torch.dtype,
) -> None:
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance should be 0 or more, it is {tolerance}: nothing would be too large for it")
    if num_rotations < 1:
        raise ValueError(f"num_rotations should be 1 or more, it is {num_rotations}: nothing would be tried")
    if num_rows < 1:
        what = "num_rows" if places is None else "the number of positions"
        raise ValueError(f"{what} should be 1 or more, it is {num_rows}: nothing would be compared")
    if not irreps_out.dim:
        raise ValueError(f"irreps_out = '{irreps_out}' has no components: nothing would be compared")
    if not irreps_in.dim and places is None:
        raise ValueError(f"irreps_in = '{irreps_in}' has no components: give features or positions that turn")
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype should be real floating point, such as torch.float32, it is {dtype}")


def _noise(
    ask: Callable[[Tensor, Tensor | None], Tensor],
    features: Tensor,
    irreps: Irreps,
    places: Tensor | None,
    expected: Tensor,
    size: float,
) -> Tensor:
    """Changes of the result (M, irreps_out.dim), the largest of some, as features and positions change by ``size``.

    Relative to the length of each vector of features, and of each position: turning them rounds them so.
    """
    generator = torch.Generator().manual_seed(0)

    def changed(vectors: Tensor) -> Tensor:  # (…, components)
        random = 2 * torch.rand(vectors.shape, generator=generator, dtype=torch.float64) - 1
        return vectors + size * random * vectors.norm(dim=-1, keepdim=True)

    largest = torch.zeros_like(expected)
    for _ in range(_NUM_NOISES):
        other = features.clone()
        for block in blocks(irreps):
            other[:, block.slice] = changed(block.view(features).transpose(1, 2)).transpose(1, 2).flatten(1)
        result = ask(other, None if places is None else changed(places))
        if result.shape != expected.shape:
            raise AssertionError(f"a result has {len(result)} rows, the first one had {len(expected)}")
        largest = torch.maximum(largest, (result - expected).abs().nan_to_num(0.0, 0.0))
    return largest


def _in_float64(
    fn: Callable[..., Tensor | NDArray[Any]],
    irreps_in: Irreps,
    irreps_out: Irreps,
    dtype: torch.dtype,
    e3nn_layout: bool,
    precisions: set[torch.dtype],
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """``fn`` as a function of component-major float64 features and, perhaps, positions.

    The precision of its results is added to ``precisions``.
    """
    device = _device_of(fn)

    def ask(features: Tensor, positions: Tensor | None) -> Tensor:
        rows = to_e3nn_layout(features, irreps_in) if e3nn_layout and irreps_in.dim else features
        # Copies: functions may work in place, and may give the same memory at every call.
        given = [x.to(device, dtype, copy=True) for x in ((rows,) if positions is None else (rows, positions))]
        found = fn(*given)
        if not isinstance(found, Tensor | np.ndarray):
            kind = f"{type(found).__name__}: check a part of it, as in lambda x: fn(x)[0]"
            raise AssertionError(f"the result should be a tensor or an array, it is of the type {kind}")
        result = torch.as_tensor(found)
        if result.is_complex():
            raise AssertionError("the result is complex: check its real and its imaginary part, one after the other")
        if result.is_floating_point():
            precisions.add(result.dtype)
        result = result.detach().to("cpu", torch.float64, copy=True)
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
    return torch.cat(parts, dim=1) if parts else features


def _largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0
