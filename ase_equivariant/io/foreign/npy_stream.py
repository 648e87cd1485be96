"""A line of JSON followed by numpy arrays: the container of equinox models, read without unpickling."""

from __future__ import annotations

import json
import math
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

_MAX_HEADER = 1 << 20  # bytes; Nequix's are of the order of 3000
_FLOATS = ("f2", "f4", "f8")


class NpyStreamError(ValueError):
    """The stream does not hold what it should; the message says what was found."""


def read_json_line(file: BinaryIO) -> dict[str, Any]:
    """The JSON object in the first line.

    Raises
    ------
    NpyStreamError
        If the line is no JSON object, or longer than any such header is.
    """
    line = file.readline(_MAX_HEADER)
    try:
        header = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise NpyStreamError("its first line is not a JSON object")
    return header


def read_float_array(file: BinaryIO, shape: tuple[int, ...], what: str) -> Tensor:
    """The next array, which must hold floating-point numbers and have ``shape``; in float64.

    Header and size are checked before anything is read, so that a damaged file can
    neither run code nor ask for more memory than its model has.
    """
    try:
        if np.lib.format.read_magic(file) != (1, 0):  # numpy writes later versions for headers that no array here has
            raise ValueError
        found, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        raise NpyStreamError(f"it ends or is damaged where the array of {what} should start") from None
    if dtype.kind != "f" or dtype.str[1:] not in _FLOATS or fortran_order:
        raise NpyStreamError(f"{what} does not hold floating-point numbers in C order but {dtype}")
    if found != shape:
        raise NpyStreamError(f"{what} has shape {found} where its configuration asks for {shape}")
    content = file.read(math.prod(shape) * dtype.itemsize)
    if len(content) < math.prod(shape) * dtype.itemsize:
        raise NpyStreamError(f"it ends inside {what}: it is truncated, get it anew")
    array = np.frombuffer(content, dtype).astype(np.float64).reshape(shape)
    if not np.isfinite(array).all():
        raise NpyStreamError(f"{what} holds numbers that are not finite")
    return torch.from_numpy(array)
