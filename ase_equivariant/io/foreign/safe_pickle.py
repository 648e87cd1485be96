"""PyTorch's zip archives read as data: tensors, containers and inert records, whatever the pickle names.

A pickle is a program that may call anything that can be imported. Here it may call what is in a short
list (the rebuilding of tensors, a few containers); any other name, be it ``os.system`` or a module of
the package that wrote the file, becomes a class of inert records that keep what they were given.
Nothing is imported and nothing else is run, however the file is made.

It reads what ``torch.save`` writes and the archives of ``torch.package``.

References
----------
Python's documentation of `pickle`, "Restricting Globals"; PyTorch's `torch.serialization`.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import zipfile
import zlib
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_CONTAINERS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "slice"): slice,
    ("__builtin__", "set"): set,  # their names in pickles of protocol 2, which torch.save writes
    ("__builtin__", "frozenset"): frozenset,
    ("torch", "Size"): tuple,
}
# A tensor that repeats its storage may be this much longer than it; else a small file could ask for any memory.
_MAX_REPEATED = 1 << 20
# Deflate cannot do better than this.
_MAX_COMPRESSION = 1100


class UnsafePickleError(ValueError):
    """An archive that is damaged, or does something that reading data does not need; the message says what."""


class Record:
    """Something of a class that was not loaded.

    Each class of the file has a subclass of its own, which also stands where the file refers to the
    class, or to a function, itself.

    Attributes
    ----------
    name : str
        Module and name of the class.
    args : tuple
        What it was made with.
    state : Any
        Its attributes, usually a dict; None if the file gives it none.
    entries : list
        Its elements, or (key, value) pairs, if it was filled like a list or dict.
    """

    name: ClassVar[str] = ""

    args: tuple[Any, ...]
    state: Any
    entries: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Record:
        """Keep whatever comes; ``__init__`` is not called where a pickle says NEWOBJ."""
        record = super().__new__(cls)
        record.args, record.state, record.entries = args, None, []
        return record

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries.append((key, value))

    def append(self, value: Any) -> None:
        """Keep an element."""
        self.entries.append(value)

    def extend(self, values: Any) -> None:
        """Keep elements."""
        self.entries.extend(values)

    def __repr__(self) -> str:
        return f"<record of {self.name}>"


class _Storage(NamedTuple):
    numbers: Tensor  # (n,)


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
            raise UnsafePickleError(f"not a zip archive: {error}") from None
        self._entries = {info.filename: info for info in self._zip.infolist()}
        self._root = next(iter(self._entries), "").partition("/")[0]

    def __enter__(self) -> TorchArchive:
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()

    def __contains__(self, entry: str) -> bool:
        """Whether there is an entry of this name below the archive's one folder."""
        return f"{self._root}/{entry}" in self._entries

    def read(self, entry: str) -> bytes:
        """Content of an entry.

        Raises
        ------
        UnsafePickleError
            If there is no such entry, or it is damaged.
        """
        info = self._entries.get(f"{self._root}/{entry}")
        if info is None:
            raise UnsafePickleError(f"it has no entry {entry}: it is truncated or of another kind")
        if info.file_size > _MAX_COMPRESSION * max(info.compress_size, 1):
            raise UnsafePickleError(f"its entry {entry} claims to be {info.file_size} bytes long")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
            raise UnsafePickleError(f"its entry {entry} is damaged: {error}") from None

    def load(self, entry: str = "data.pkl") -> Any:
        """What the pickle in ``entry`` describes, with records in place of foreign classes.

        Raises
        ------
        UnsafePickleError
            If it is damaged, or calls something in a way that data does not.
        """
        content = self.read(entry)
        if "byteorder" in self and self.read("byteorder") != b"little":
            raise UnsafePickleError("its numbers are not little-endian")
        try:
            _check_sizes(content)
            return _Unpickler(content, self).load()
        except UnsafePickleError:
            raise
        except Exception as error:  # a made-up pickle can make the unpickler raise anything
            raise UnsafePickleError(f"its pickle {entry} is damaged: {error}") from None

    def storage(self, key: str) -> bytes:
        """Bytes of a tensor's storage, wherever this kind of archive has them."""
        for entry in (f"data/{key}", f".data/{key}.storage"):
            if entry in self:
                return self.read(entry)
        raise UnsafePickleError(f"it has no storage {key}: it is truncated")


def _check_sizes(content: bytes) -> None:
    """Refuse a pickle that asks for memory it cannot need.

    Python's unpickler makes its table of references as long as the largest number in the pickle
    says, up to many gigabytes; a pickle has no more references than bytes.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= len(content):
            raise UnsafePickleError(f"its pickle refers to an object number {argument}: it is damaged")


class _Unpickler(pickle.Unpickler):
    """Resolves names to the allowed few, or to records."""

    def __init__(self, content: bytes, archive: TorchArchive):
        super().__init__(BytesIO(content))
        self._archive = archive
        self._records: dict[str, type[Record]] = {}
        self._storages: dict[str, _Storage] = {}
        # Bound methods: a pickle that changes attributes of what it calls cannot change them.
        self._calls = {
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): self._rebuild_parameter,
        }

    def find_class(self, module: str, name: str) -> Any:
        """The allowed thing of this name, or a class of records."""
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        if (module, name) in self._calls:
            return self._calls[module, name]
        full = f"{module}.{name}"
        if full not in self._records:
            self._records[full] = type("Record", (Record,), {"name": full})
        return self._records[full]

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that ("storage", its class, key, device, size) refers to."""
        kind, storage_class, key, _, size = pid
        dtype = _STORAGES.get(storage_class.name.removeprefix("torch."))
        if kind != "storage" or dtype is None:
            raise UnsafePickleError(f"it has a storage of a kind that is not known: {storage_class.name}")
        if key not in self._storages:
            content = bytearray(self._archive.storage(key))
            if len(content) != size * dtype.itemsize:
                raise UnsafePickleError(f"its storage {key} has {len(content)} bytes, not {size} numbers of {dtype}")
            self._storages[key] = _Storage(
                torch.frombuffer(content, dtype=dtype) if size else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]

    def _rebuild_tensor(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        if min((offset, *size, *stride)) < 0 or len(size) != len(stride):
            raise UnsafePickleError(f"a tensor has offset {offset}, size {size} and stride {stride}")
        available = storage.numbers.numel()
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        count = math.prod(size)
        if count and (last >= available or count > max(available, _MAX_REPEATED)):
            raise UnsafePickleError(f"a tensor of size {size} does not lie within its {available} numbers")
        return storage.numbers.as_strided(size, stride, offset) if count else storage.numbers.new_empty(size)

    def _rebuild_parameter(self, data: Tensor, *_: Any) -> Tensor:
        return data
