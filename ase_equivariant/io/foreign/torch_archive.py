"""PyTorch's zip archives read as data: tensors, containers and inert records, whatever the pickle names.

It reads what ``torch.save`` writes and the archives of ``torch.package``, without ``torch.load``: their
pickles are read by `safe_pickle`, which calls nothing but the rebuilding of tensors below. What a file can
make of itself is limited: neither compression nor tensors that share their numbers take any memory asked for.

References
----------
PyTorch's `torch.serialization` and `torch.package`.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ase_equivariant.io.file_kind import what_else
from ase_equivariant.io.foreign.safe_pickle import Named, UnsafePickleError, read_pickle

_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_MAX_PICKLE = 1 << 23  # bytes; those of published models have 10^4 to 10^6
# PyTorch does not compress, but people do. Bytes that all entries may have for each byte of the file, and besides.
_BYTES_PER_BYTE, _BYTES_BESIDES = 16, 1 << 24
# Tensors may share their numbers, or repeat them. Numbers that all may have for each byte of storage, and besides.
_NUMBERS_PER_BYTE, _NUMBERS_BESIDES = 4, 1 << 20
_MAX_DIMENSIONS = 64


class TorchArchive:
    """The entries of a zip archive that ``torch.save`` or ``torch.package`` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    UnsafePickleError
        If it is no such archive.
    """

    def __init__(self, path: Path):
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            known = what_else(path) if path.is_file() else ""
            raise UnsafePickleError(f"not a zip archive: {known or error}") from None
        self._bytes_left = _BYTES_PER_BYTE * path.stat().st_size + _BYTES_BESIDES
        self._entries = {info.filename: info for info in self._zip.infolist()}
        self._root = next(iter(self._entries), "").partition("/")[0]

    def __enter__(self) -> TorchArchive:
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()

    def __contains__(self, entry: str) -> bool:
        """Whether there is an entry of this name below the archive's one folder."""
        return f"{self._root}/{entry}" in self._entries

    @property
    def is_program(self) -> bool:
        """Whether it is of TorchScript or AOTInductor: compiled code and its data."""
        return any(
            name.startswith((f"{self._root}/code/", f"{self._root}/data/aotinductor/")) for name in self._entries
        )

    def read(self, entry: str) -> bytes:
        """Content of an entry.

        Raises
        ------
        UnsafePickleError
            If there is no such entry, or it is damaged, or the entries read are far longer than the file.
        """
        info = self._entries.get(f"{self._root}/{entry}")
        if info is None:
            raise UnsafePickleError(f"it has no entry {entry}: it is truncated or of another kind")
        self._bytes_left -= info.file_size  # of compressed entries, and of such as lie over each other
        if self._bytes_left < 0:
            raise UnsafePickleError(f"with its entry {entry} it claims to be far longer than its file")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
            raise UnsafePickleError(f"its entry {entry} is damaged: {error}") from None

    def load(self, entry: str = "data.pkl") -> Any:
        """What the pickle in ``entry`` describes, with records in place of foreign classes.

        Raises
        ------
        UnsafePickleError
            If it is damaged, or asks for what data do not need.
        """
        content = self.read(entry)
        if len(content) > _MAX_PICKLE:
            raise UnsafePickleError(f"its entry {entry} is {len(content)} bytes long, which no model's is")
        if "byteorder" in self and self.read("byteorder") != b"little":
            raise UnsafePickleError("its numbers are not little-endian")
        tensors = _Tensors(self)
        return read_pickle(content, tensors.functions, tensors.storage)


class _Storage(NamedTuple):
    numbers: Tensor  # (n,)


class _Tensors:
    """Rebuilds the tensors that the pickles of an archive describe."""

    def __init__(self, archive: TorchArchive):
        self._archive = archive
        self._storages: dict[str, _Storage] = {}
        self._numbers_left = _NUMBERS_BESIDES
        self.functions: dict[str, Callable[..., Any]] = {
            "torch._utils._rebuild_tensor_v2": self._rebuild_tensor,
            "torch._utils._rebuild_parameter": self._rebuild_parameter,
            "torch.Size": self._size,
        }

    def storage(self, reference: Any) -> _Storage:
        """The storage that ("storage", its class, key, device, size) refers to."""
        kind, storage_class, key, _, size = reference
        dtype = _STORAGES.get(storage_class.name) if isinstance(storage_class, Named) else None
        if kind != "storage" or dtype is None:
            raise UnsafePickleError("it has numbers of a kind that is not known")
        if key not in self._storages:
            content = bytearray(self._content(key))
            if len(content) != size * dtype.itemsize:
                raise UnsafePickleError(f"its storage {key} has {len(content)} bytes, not {size} numbers of {dtype}")
            numbers = torch.frombuffer(content, dtype=dtype) if size else torch.empty(0, dtype=dtype)
            self._storages[key] = _Storage(numbers)
            self._numbers_left += _NUMBERS_PER_BYTE * len(content)
        return self._storages[key]

    def _content(self, key: str) -> bytes:
        """Bytes of a storage, wherever this kind of archive has them."""
        for entry in (f"data/{key}", f".data/{key}.storage"):
            if entry in self._archive:
                return self._archive.read(entry)
        raise UnsafePickleError(f"it has no storage {key}: it is truncated")

    def _rebuild_tensor(
        self, storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
    ) -> Tensor:
        if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS or min((offset, *size, *stride)) < 0:
            raise UnsafePickleError(f"a tensor has offset {offset}, size {size} and stride {stride}")
        available = storage.numbers.numel()
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        count = math.prod(size)
        if count and last >= available:
            raise UnsafePickleError(f"a tensor of size {size} does not lie within its {available} numbers")
        self._numbers_left -= count
        if self._numbers_left < 0:
            raise UnsafePickleError(f"a tensor of size {size} has more numbers than the file can hold")
        return storage.numbers.as_strided(size, stride, offset) if count else storage.numbers.new_empty(size)

    def _rebuild_parameter(self, data: Tensor, *_: Any) -> Tensor:
        return data

    def _size(self, numbers: tuple[int, ...] = ()) -> tuple[int, ...]:
        return numbers
