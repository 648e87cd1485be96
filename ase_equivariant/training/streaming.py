"""Structures that stay in their databases until they are wanted: sets that are larger than memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import numpy as np

from ase_equivariant.training.frames import Frame
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.readers import (
    DATABASES,
    DataError,
    LabelNames,
    atoms_of,
    check_file,
    check_units,
    finish,
    label_one,
    open_database,
)

_LOOKED_AT = 100  # structures in which names of labels are looked for before all others
T = TypeVar("T")


class OnDemand(Sequence[T]):
    """A sequence whose items are made when they are asked for, and not kept."""

    def __init__(self, length: int, make: Callable[[int], T]):
        self._length, self._make = length, make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, k: int) -> T: ...
    @overload
    def __getitem__(self, k: slice) -> list[T]: ...
    def __getitem__(self, k: int | slice) -> T | list[T]:
        if isinstance(k, slice):
            return [self._make(index) for index in range(*k.indices(self._length))]
        return self._make(range(self._length)[k])


class StreamedFrames(OnDemand[Frame]):
    """Labelled structures of an ASE database.

    Parameters
    ----------
    path : str or Path
        ``.db`` (SQLite) or ``.aselmdb`` (LMDB, with the package of that extra).
    config : LabelConfig
        Names and units of the labels.

    Raises
    ------
    DataError
        If the file is no database, is empty, or a label that the configuration names is in no structure.
    """

    def __init__(self, path: str | Path, config: LabelConfig):
        self.path, self._config = Path(path), config
        if self.path.suffix not in DATABASES:
            raise DataError(
                f"{path}: data.streaming reads databases ({', '.join(DATABASES)}): "
                "write one with `ase-equivariant data convert`, or leave data.streaming out"
            )
        check_file(self.path)
        try:
            self._database = open_database(self.path)
            check_units(self._database, self.path, config)
            self._rows = self._find_rows()
        except DataError:
            raise
        except Exception as error:  # ASE's readers raise whatever their format makes them stumble on
            raise DataError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error
        if not len(self._rows):
            raise DataError(f"{path}: no structures in it")
        super().__init__(len(self._rows), self._read)
        names = LabelNames(config)
        for k in self._spread():
            atoms = self._structure(k)
            names.add(atoms, label_one(atoms, self._where(k), config))
            if names.are_found:
                break
        names.check(self.path)

    def _spread(self) -> Iterator[int]:
        """Some positions all over the file, and then all others."""
        some = np.unique(np.linspace(0, len(self) - 1, _LOOKED_AT).astype(int)).tolist()
        yield from some
        yield from sorted(set(range(len(self))) - set(some))

    def digest(self) -> bytes:
        """sha256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def _find_rows(self) -> np.ndarray:
        known = getattr(self._database, "ids", None)  # of LMDB, in memory already
        if known is None:
            known = [row.id for row in self._database.select(columns=["id"], include_data=False)]
        return np.array(known, dtype=np.int64)

    def _where(self, k: int) -> str:
        return f"{self.path}: structure {k}"

    def _structure(self, k: int) -> Any:
        return atoms_of(self._database.get(id=int(self._rows[k])))

    def _read(self, k: int) -> Frame:
        where = self._where(k)
        return finish(label_one(self._structure(k), where, self._config), where, self.path, self._config)


def pick_frames(sources: Sequence[Sequence[Frame]], indices: Sequence[int]) -> OnDemand[Frame]:
    """The frames at these positions of all sources together."""
    ends, positions = np.cumsum([len(source) for source in sources]), np.asarray(indices, dtype=np.int64)

    def read(k: int) -> Frame:
        position = int(positions[k])
        source = int(np.searchsorted(ends, position, side="right"))
        return sources[source][position - int(ends[source])]  # counted from the source's end

    return OnDemand(len(positions), read)


def ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The same items, ``depth`` of which a thread makes while the caller works on those before."""
    end = object()
    pool = ThreadPoolExecutor(1)
    try:
        pending = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield cast(T, item)
    finally:  # the thread must have ended before the interpreter does
        pool.shutdown(cancel_futures=True)
