"""A model however the user has it: by name, as a file, or as a potential."""

from __future__ import annotations

import os
from pathlib import Path

from ase_equivariant.io.model_file import Header, load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.potential.potential import Potential


def open_model(model: str | Path | Potential, modal: str | None = None) -> tuple[Potential, Header | None]:
    """The potential, which is the caller's own where one was given, and the header of the file it is from.

    Parameters
    ----------
    model : str, Path or Potential
        Name or path as :func:`~ase_equivariant.io.registry.resolve` takes it.
    modal : str, optional
        Level of theory of a multi-fidelity model.

    Raises
    ------
    TypeError
        If ``model`` is none of these.
    ValueError
        If ``modal`` is given with a Potential.
    OSError, RuntimeError
        If there is no such model, or it cannot be read.
    """
    if not isinstance(model, Potential | str | os.PathLike):
        raise TypeError(f"model = {model!r}: give the name of a model, the path of a model file, or a Potential")
    if not isinstance(model, Potential):
        loaded = load_model(resolve(model, modal))
        return loaded.potential, loaded.header
    if modal is not None:
        raise ValueError(f"a Potential has one level of theory: leave out modal={modal!r}")
    return model, None
