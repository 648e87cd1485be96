"""Models by name: those shipped with the package."""

from __future__ import annotations

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
# An installed package carries the models inside; a source tree has them at its top.
_FOLDERS = (_PACKAGE / "_models", _PACKAGE.parent / "models")


class ModelNotFoundError(FileNotFoundError):
    """Neither a model's name nor a file."""


def shipped_models() -> dict[str, Path]:
    """Names of the shipped models and their files."""
    return {file.stem: file for folder in reversed(_FOLDERS) for file in sorted(folder.glob("*.safetensors"))}


def resolve(model: str | Path) -> Path:
    """The file of a model given by name or path.

    Raises
    ------
    ModelNotFoundError
        Names the shipped models, and the nearest one if the name looks like a slip.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path
    models = shipped_models()
    if str(model) in models:
        return models[str(model)]
    near = difflib.get_close_matches(str(model), models, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelNotFoundError(
        f"no model named {str(model)!r} and no such file; {hint}shipped models: {', '.join(models) or 'none'}"
    )
