"""What the check of equivariance is given, and what functions give back: read, or refused in one line."""

from __future__ import annotations

from itertools import chain
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ase_equivariant.irreps import Irreps


def dtype_of(fn: object) -> torch.dtype:
    """A module's own precision, else float64."""
    parameters = fn.parameters() if isinstance(fn, torch.nn.Module) else ()
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.float64)


def device_of(fn: object) -> torch.device:
    """A module's own device, else the CPU."""
    tensors = chain(fn.parameters(), fn.buffers()) if isinstance(fn, torch.nn.Module) else ()
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def one_irreps(name: str, irreps: Any) -> Irreps:
    """Irreps of an argument.

    Raises
    ------
    ValueError
        If they are none.
    """
    try:
        return Irreps(irreps)
    except TypeError:
        raise ValueError(f"{name} should be irreps, such as '8x0e+4x1o', it is {irreps!r:.60}") from None


def several_irreps(name: str, irreps: Any) -> list[Irreps]:
    """Irreps of each of several features: of a list of irreps, not of pairs (multiplicity, irrep), which are one.

    Raises
    ------
    ValueError
        If they are none.
    """
    if isinstance(irreps, list | tuple) and irreps and not any(_is_term(part) for part in irreps):
        return [one_irreps(f"{name}[{k}]", part) for k, part in enumerate(irreps)]
    return [one_irreps(name, irreps)]


def _is_term(part: object) -> bool:
    return isinstance(part, list | tuple) and len(part) == 2 and isinstance(part[0], int)


def refuse_what_is_no_number(tolerance: object, **whole: Any) -> None:
    """Refuse what should be a number, or a whole one, and is none."""
    for name, value in whole.items():
        try:
            index(value)  # NumPy's integers are whole numbers, too
        except TypeError:
            raise ValueError(f"{name} should be a whole number, it is {value!r:.60}") from None
    if not (tolerance is None or isinstance(tolerance, int | float | np.number)):
        raise ValueError(f"tolerance should be a number, it is {tolerance!r:.60}")


def parse_positions(positions: object) -> Tensor:
    """As float64, on the CPU.

    Raises
    ------
    ValueError
        If they are no real numbers of the shape (N, 3).
    """
    try:
        places = torch.as_tensor(positions)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"positions should be a tensor or an array (N, 3), not {type(positions).__name__}") from None
    if places.ndim != 2 or places.shape[1] != 3 or places.is_complex():
        kind = f"{str(places.dtype).removeprefix('torch.')} {tuple(places.shape)}"
        raise ValueError(f"positions should be real numbers of the shape (N, 3), they are {kind}")
    return places.detach().to("cpu", torch.float64)


def refuse_what_compares_nothing(
    irreps_in: Irreps,
    irreps_out: Irreps,
    places: Tensor | None,
    tolerance: float | None,
    num_rows: int,
    num_rotations: int,
    dtype: torch.dtype,
) -> None:
    """Refuse what leaves nothing to compare, or nothing that could be wrong."""
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


def result_tensor(found: object, irreps_out: Irreps) -> Tensor:
    """A function's result.

    Raises
    ------
    AssertionError
        If it is no tensor or array of real numbers (M, irreps_out.dim).
    """
    if not isinstance(found, Tensor | np.ndarray):
        kind = f"{type(found).__name__}: check a part of it, as in lambda x: fn(x)[0]"
        raise AssertionError(f"the result should be a tensor or an array, it is of the type {kind}")
    result = torch.as_tensor(found)
    if result.is_complex():
        raise AssertionError("the result is complex: check its real and its imaginary part, one after the other")
    if result.ndim != 2:
        raise AssertionError(f"the result should be rows of components, it has the shape {tuple(result.shape)}")
    if result.shape[-1] != irreps_out.dim:
        raise AssertionError(f"the result has {result.shape[-1]} components, {irreps_out} has {irreps_out.dim}")
    return result
