"""Import of the optional packages behind the doors."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def foreign(module: str, package: str, extra: str | None = None) -> Any:
    """The module of an optional package.

    Parameters
    ----------
    module : str
        To import.
    package : str
        What it is called on PyPI.
    extra : str, optional
        Of ours that installs it.

    Raises
    ------
    ImportError
        If it is not there; says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        command = f"pip install 'ase-equivariant[{extra}]'" if extra else f"pip install {package}"
        raise ImportError(f"{package} cannot be imported ({error}): install it with {command}") from None
