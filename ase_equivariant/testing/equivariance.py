"""Check that a function is equivariant."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_equivariant.irreps import Irreps, blocks, from_e3nn_layout, random_rotation, to_e3nn_layout, wigner_d
from ase_equivariant.precision import parse_dtype
from ase_equivariant.testing.arguments import (
    device_of,
    dtype_of,
    one_irreps,
    parse_positions,
    refuse_what_compares_nothing,
    refuse_what_is_no_number,
    result_tensor,
    several_irreps,
)

# What is zero by symmetry is rounding: this much of the tolerance is put on features and positions to see how much, and
# so many times as much is allowed as comes of it.
_NOISE, _ALLOWANCE, _NUM_NOISES = 1e-3, 100, 3


def assert_equivariant(
    fn: Callable[..., Tensor | NDArray[Any]],
    irreps_in: Irreps | str | Sequence[Irreps | str],
    irreps_out: Irreps | str,
    *,
    positions: Tensor | NDArray[Any] | None = None,
    inversion: bool = True,
    tolerance: float | None = None,
    num_rows: int = 8,
    num_rotations: int = 3,
    seed: int = 0,
    dtype: torch.dtype | str | None = None,
    e3nn_layout: bool = True,
) -> float:
    r"""Check ``fn(D_in(R) x, R r) = D_out(R) fn(x, r)`` for random features x and operations R.

    Parameters
    ----------
    fn : callable
        ``fn(features)``, or ``fn(features, positions)`` if positions are given: tensors (N, irreps_in.dim) and
        (N, 3) to a tensor or array (M, irreps_out.dim). A module, a lambda, anything that can be called; it may work
        in place, as each call is given copies.
    irreps_in, irreps_out : Irreps or str
        How features and result turn, in the order given: "1o+0e" are three components and one. For a function of
        several features, ``fn(x, y)``, a list of irreps, ``["1o", "1o"]``; for one of positions only "", and features
        are (N, 0).
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
        Whether features are multiplicity-major as e3nn's, "2x1o" one vector after the other; False for
        component-major ones, x of both, y of both, z of both, as this package's own layers have them
        (:mod:`ase_equivariant.irreps.layout`).

    Returns
    -------
    float
        The largest violation found.

    Raises
    ------
    AssertionError
        If it is larger than ``tolerance`` or not finite; names the operation and the irrep that turns wrongly, and
        the other layout if all is right in that. If a result has no rows, another number of them than the first,
        another number of components than irreps_out, is complex, or is neither a tensor nor an array.
    ValueError
        If the arguments leave nothing to compare, or are not what they should be.
    """
    if not callable(fn):
        raise ValueError(f"fn should be a function or a module, it is {fn!r:.60}")
    parts, irreps_out = several_irreps("irreps_in", irreps_in), one_irreps("irreps_out", irreps_out)
    if dtype is None:
        dtype = dtype_of(fn)
    elif isinstance(dtype, str):
        dtype = parse_dtype(dtype)
    refuse_what_is_no_number(tolerance, num_rows=num_rows, num_rotations=num_rotations, seed=seed)
    places = None if positions is None else parse_positions(positions)
    num_rows = num_rows if places is None else len(places)
    whole = sum(parts, Irreps())
    refuse_what_compares_nothing(whole, irreps_out, places, tolerance, num_rows, num_rotations, dtype)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_rows, whole.dim, generator=generator, dtype=torch.float64)
    rotations = [random_rotation(generator) for _ in range(num_rotations)]
    matrices = [sign * rotation for rotation in rotations for sign in ((1, -1) if inversion else (1,))]

    def compare(in_e3nn_layout: bool) -> tuple[float, float, str]:
        return _violation(_Asked(fn, parts, irreps_out, dtype, in_e3nn_layout), features, places, matrices, tolerance)

    worst, allowed, culprit = compare(e3nn_layout)
    if worst > allowed:
        hint = _other_layout(compare, e3nn_layout, [*whole, *irreps_out])
        raise AssertionError(
            f"not equivariant: {culprit} is wrong by {worst:.2e} relative, allowed is {allowed:.0e}{hint}"
        )
    return worst


def _other_layout(compare: Callable[[bool], tuple[float, float, str]], e3nn_layout: bool, terms: list[Any]) -> str:
    """What to say if the function is right in the layout that it was not checked in."""
    if not any(mul > 1 and ir.l for mul, ir in terms):
        return ""
    try:
        worst, allowed, _ = compare(not e3nn_layout)
    except Exception:  # of the user's function, which was asked for more than it expected
        return ""
    major = "component-major" if e3nn_layout else "e3nn's multiplicity-major"
    return f"; with {major} features it is right: give e3nn_layout={not e3nn_layout}" if worst <= allowed else ""


def _violation(
    ask: _Asked, features: Tensor, places: Tensor | None, matrices: Sequence[Tensor], tolerance: float | None
) -> tuple[float, float, str]:
    """The largest violation, what is allowed, and the irrep and operation that it is of."""
    expected = ask(features, places)
    if not len(expected):
        raise AssertionError("the result has no rows, so that nothing can be compared")
    rounding = max(torch.finfo(precision).eps for precision in ask.precisions)
    allowed = tolerance if tolerance is not None else 1e-10 if rounding <= torch.finfo(torch.float64).eps else 1e-4

    @cache  # most need it not
    def noise() -> Tensor:
        return _noise(ask, features, places, expected, max(_NOISE * allowed, rounding))

    worst, culprit = 0.0, ""
    for matrix in matrices:
        result = ask(turn_features(features, ask.irreps_in, matrix), None if places is None else places @ matrix.T)
        if result.shape != expected.shape:
            raise AssertionError(f"a result has {len(result)} rows, the first one had {len(expected)}")
        difference = result - turn_features(expected, ask.irreps_out, matrix)
        for block in blocks(ask.irreps_out):
            wrong = _largest(difference[:, block.slice])
            size = max(_largest(expected[:, block.slice]), _largest(result[:, block.slice]))
            violation = wrong / size if wrong else 0.0
            if violation > allowed and allowed:
                # Nothing is allowed that is wrong on the scale of the whole result.
                noisy = _ALLOWANCE * _largest(noise()[:, block.slice]) / allowed
                violation = wrong / max(size, min(_largest(expected) or 1.0, noisy))
            name = f"{block.irrep} under a rotation{' with inversion' if torch.linalg.det(matrix) < 0 else ''}"
            if not math.isfinite(violation):
                raise AssertionError(f"not equivariant: {name} is wrong by {violation}, as a result is not finite")
            if violation > worst:
                worst, culprit = violation, name
    return worst, allowed, culprit


def _noise(ask: _Asked, features: Tensor, places: Tensor | None, expected: Tensor, size: float) -> Tensor:
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
        for block in blocks(ask.irreps_in):
            other[:, block.slice] = changed(block.view(features).transpose(1, 2)).transpose(1, 2).flatten(1)
        result = ask(other, None if places is None else changed(places))
        if result.shape != expected.shape:
            raise AssertionError(f"a result has {len(result)} rows, the first one had {len(expected)}")
        largest = torch.maximum(largest, (result - expected).abs().nan_to_num(0.0, 0.0))
    return largest


@dataclass
class _Asked:
    """The function, of component-major float64 features and, perhaps, positions.

    Attributes
    ----------
    parts : list of Irreps
        Of the features, which it is given one after the other.
    precisions : set of torch.dtype
        Of what it was given, and of its results so far.
    """

    fn: Callable[..., Tensor | NDArray[Any]]
    parts: list[Irreps]
    irreps_out: Irreps
    dtype: torch.dtype
    e3nn_layout: bool
    precisions: set[torch.dtype] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.irreps_in = sum(self.parts, Irreps())
        self.device = device_of(self.fn)
        self.precisions.add(self.dtype)

    def __call__(self, features: Tensor, positions: Tensor | None) -> Tensor:
        """Result, (M, irreps_out.dim)."""
        given = list(features.split([part.dim for part in self.parts], dim=1))
        if self.e3nn_layout:
            given = [to_e3nn_layout(x, part) if part.dim else x for x, part in zip(given, self.parts, strict=True)]
        if positions is not None:
            given.append(positions)
        # Copies: functions may work in place, and may give the same memory at every call.
        found = result_tensor(self.fn(*(x.to(self.device, self.dtype, copy=True) for x in given)), self.irreps_out)
        if found.is_floating_point():
            self.precisions.add(found.dtype)
        result = found.detach().to("cpu", torch.float64, copy=True)
        return from_e3nn_layout(result, self.irreps_out) if self.e3nn_layout else result


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
