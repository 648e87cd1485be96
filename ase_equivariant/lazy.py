"""Names of a package that are imported when they are first asked for (PEP 562).

So that :mod:`ase_equivariant.testing` can check a calculator in an environment that has ASE and numpy only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package, whose names come from ``modules`` (name → module)."""

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)  # this function is asked once only
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *modules})
