"""One run in a folder at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

NAME = ".lock"


class FolderInUseError(RuntimeError):
    """Another process trains in the folder; the message says which and what to do."""


@contextmanager
def hold_folder(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Keep other runs out of ``folder``, which is made if it is not there; with ``wanted`` false do nothing.

    The operating system lets go of the lock when the process ends, however it ends. Of several processes of one
    run the main one, which writes, is to hold it.

    Raises
    ------
    FolderInUseError
        If another run holds it.
    FileExistsError
        If a file is in the way.
    """
    if not wanted:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise FileExistsError(f"{folder}: it, or a folder above it, is a file: choose another run.folder") from None
    lock = FileLock(folder / NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderInUseError(
            f"{folder}: another process trains in this folder: wait for its end, stop it, or choose another run.folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
