"""Models by name: those shipped with the package, and the universal ones, fetched when first asked for."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from ase_equivariant.io.cache import cached_model
from ase_equivariant.io.catalog import KnownModel, known_model, known_names
from ase_equivariant.io.file_kind import is_safetensors
from ase_equivariant.io.foreign.importing import find_importer
from ase_equivariant.io.install import install, installed_files

_PACKAGE = Path(__file__).resolve().parent.parent
# An installed package carries the models inside; a source tree has them at its top.
_FOLDERS = (_PACKAGE / "_models", _PACKAGE.parent / "models")


_SHORT_NAMES = {"ethanol": "rmd17-ethanol"}


class ModelNotFoundError(FileNotFoundError):
    """Neither a model's name nor a file."""


def shipped_models() -> dict[str, Path]:
    """Names of the shipped models and their files; a short name may stand for a longer one."""
    files = {file.stem: file for folder in reversed(_FOLDERS) for file in sorted(folder.glob("*.safetensors"))}
    return {short: files[name] for short, name in _SHORT_NAMES.items() if name in files} | files


def resolve(model: str | Path, modal: str | None = None) -> Path:
    """The file of a model given by name or path.

    A universal model that is not in the cache is fetched and converted, which is said in
    one line on the standard error.

    Parameters
    ----------
    model : str or Path
        Name of a shipped or universal model, or path of a model file. "sevennet-mf-0.PBE" is
        "sevennet-mf-0" with modal "PBE".
    modal : str, optional
        Level of theory of a multi-fidelity model.

    Raises
    ------
    ModelNotFoundError
        Names the models there are, and the nearest one if the name looks like a slip.
    ValueError
        If ``modal`` is missing, not one of the model's, or given for a model that has one level of theory.
    DownloadError
        If a universal model is not in the cache and cannot be fetched.
    """
    name, path = str(model), Path(model).expanduser()
    known = None if path.is_file() or name in shipped_models() else known_model(name)
    if known is not None:
        universal, named = known
        if named and modal not in (None, named):
            raise ValueError(f"{name} names a level of theory: leave out modal={modal!r}")
        return _universal(universal, modal or named)
    if modal is not None:
        raise ValueError(f"{name} has one level of theory: leave out modal={modal!r}")
    if path.is_file():
        return _ours(path, name)
    models = shipped_models()
    if name in models:
        return models[name]
    if name and path.is_dir():  # the path of an empty name is the current directory
        raise IsADirectoryError(f"{path} is a folder: name the model file in it")
    near = difflib.get_close_matches(name, [*models, *known_names()], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ModelNotFoundError(
        f"no model named {name!r} and no such file; {hint}shipped models: {', '.join(models) or 'none'}; "
        f"universal models: {', '.join(known_names())}"
    )


def check_modality(model: KnownModel, modal: str | None) -> None:
    """Check that ``modal`` chooses one level of theory of ``model``.

    Raises
    ------
    ValueError
        If it does not; names the choices.
    """
    if (modal in model.modalities) if model.modalities else (modal is None):
        return
    if not model.modalities:
        raise ValueError(f"{model.name} has one level of theory: leave out modal={modal!r}")
    problem = "needs a level of theory" if modal is None else f"knows no modal={modal!r}"
    choices = " or ".join(f"modal={choice!r}" for choice in model.modalities)
    names = " or ".join(f"{model.name}.{choice}" for choice in model.modalities)
    raise ValueError(f"{model.name} {problem}: choose {choices}, or the name {names}")


def _universal(model: KnownModel, modal: str | None) -> Path:
    check_modality(model, modal)
    if not installed_files(model):
        megabytes = f"{model.source.size / 1e6:.0f} MB"
        print(f"fetching {model.name} ({megabytes}, {model.origin}); this happens once", file=sys.stderr)
        install(model)
    return cached_model(model.name, modal)


def _ours(path: Path, name: str) -> Path:
    """``path``, unless it is a file of another package that has to be converted first, or of another kind."""
    if not (path.suffix == ".safetensors" or is_safetensors(path)):
        try:
            importer = find_importer(path)
        except ValueError as error:
            if name in shipped_models() or known_model(name) is not None:
                raise ValueError(
                    f"{error}; it hides the model of this name: rename the file, or work elsewhere"
                ) from None
            raise
        kind = importer.__name__.rsplit(".", 1)[-1]
        raise ValueError(f"{path} is a model of another package ({kind}): run ase-equivariant models convert {path}")
    return path
