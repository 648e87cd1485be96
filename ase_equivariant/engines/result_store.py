"""Results of many structures in a folder: every process appends whole lines to files of its own."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.jsonio import encode


def content_key(atoms: Atoms, settings: dict[str, Any]) -> str:
    """SHA-256 of all that decides a result: the structure, its constraints and the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(encode([constraint.todict() for constraint in atoms.constraints]).encode())
    return digest.hexdigest()


class ResultStore:
    """JSON lines ``TASK-HOST-PROCESS.jsonl`` in a folder, one record each.

    No file has two writers, so that appending needs no lock on any file system, and a process that is killed loses the
    line under way at most; readers pass over what is no whole line.

    Parameters
    ----------
    folder : Path
        Made if absent.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def append(self, task: str, record: dict[str, Any]) -> None:
        """Bring a record with a ``key`` to the disk, in one write.

        Raises
        ------
        OSError
            If the disk is full; nothing of the record stays.
        """
        path = self.folder / f"{task}-{socket.gethostname()}-{os.getpid()}.jsonl"
        line = (json.dumps(record) + "\n").encode()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":  # an earlier process of this number was killed
                line = b"\n" + line
            written = os.write(handle, line)
            if written < len(line):
                os.ftruncate(handle, size)
                raise OSError(f"{path}: the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self, task: str = "") -> dict[str, dict[str, Any]]:
        """Whole records by key, of one task or of all; of a key that was written twice, the first."""
        return {record["key"]: record for record in reversed(list(self._records(task)))}

    def _records(self, task: str) -> Iterable[dict[str, Any]]:
        for path in sorted(self.folder.glob(f"{task}*.jsonl")):
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    continue
                try:
                    yield json.loads(line)
                except ValueError:  # the rest of a line whose writer was killed
                    continue
