"""Precisions that networks are evaluated in, by name."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The precision that a user names.

    Raises
    ------
    ValueError
        If it is no name of :data:`DTYPES`, with or without ``torch.``.
    """
    found = DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f"dtype {dtype!r} is not supported: choose 'float32' or 'float64'")
    return found
