"""Results as JSON that anything can read: lists, numbers, texts."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ase_equivariant.io.atomic import atomic_path

_DIGITS = 10  # total energies are large, and what matters of them small


def plain(value: Any) -> Any:
    """``value`` in JSON's types: dataclasses by field, arrays as lists, ten digits, what is not finite as null.

    Structures are left out: they belong into files of their own.

    >>> plain({"C_GPa": np.array([[1.0, np.nan]])})
    {'C_GPa': [[1.0, None]]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items() if not _is_structure(item)}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value


def write_json(path: str | Path, content: Any) -> None:
    """Write :func:`plain` content, whole or not at all; rows of numbers stay on one line."""
    with atomic_path(path) as temporary:
        temporary.write_text(_text(plain(content)) + "\n", encoding="utf-8")


def _is_structure(item: Any) -> bool:
    return isinstance(item, Atoms) or (isinstance(item, list | tuple) and bool(item) and isinstance(item[0], Atoms))


def _text(value: Any, indent: int = 0) -> str:
    if isinstance(value, dict) and value:
        inner = " " * (indent + 1)
        rows = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {_text(item, indent + 1)}" for key, item in value.items()
        ]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    return json.dumps(value, ensure_ascii=False)
