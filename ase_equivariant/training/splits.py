"""Which structures train, which validate, which test."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np

from ase_equivariant.training.data_config import DataConfig
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.labels import LabelConfig, listed
from ase_equivariant.training.readers import DataError, read_frames
from ase_equivariant.training.streaming import OnDemand, StreamedFrames, pick_frames

_NAMES_BESIDE_ENERGY = ("forces_key", "stress_key", "virial_key", "dipole_key", "polarizability_key", "charges_key")


@dataclass(frozen=True)
class Splits:
    """Frames by use, and the lone atoms put aside.

    ``indices`` says which positions of the ``train`` files each part took; parts that come
    from files of their own are not in it. ``digest`` is of the files' contents where they are not held in memory.
    """

    train: Sequence[Frame]
    validation: Sequence[Frame]
    test: Sequence[Frame]
    isolated_atoms: Sequence[Frame]
    indices: dict[str, list[int]]
    digest: bytes = b""


def make_splits(config: DataConfig, of_atoms: Container[str] | None = None) -> Splits:
    """Read the files and divide the structures as configured; the draw depends on ``split_seed`` alone.

    ``of_atoms`` is for :func:`~ase_equivariant.training.readers.read_frames`.

    Raises
    ------
    DataError
        If files cannot be read or hold too few structures.
    """
    labels = config.label_config()
    by_file = _read(listed(config.train), labels, config.streaming, of_atoms)
    digest = b"".join(source.digest() for source in by_file if isinstance(source, StreamedFrames))
    frames = _choose(by_file)
    wanted = config.references == "isolated_atoms"
    lone = [k for k, frame in enumerate(frames) if frame.is_isolated_atom] if wanted else []
    isolated = [frames[k] for k in lone]
    if config.isolated_atoms is not None:
        # Single atoms have no forces worth a label, and files of them none that are named.
        energies_only = dict.fromkeys(_NAMES_BESIDE_ENERGY)
        isolated += read_frames(config.isolated_atoms, labels.model_copy(update={**energies_only, "readout_keys": {}}))
    if config.test_where is not None:
        matching = _matching(frames, config.test_where)
        if both := sorted(set(matching) & set(config.validation_indices or ())):
            raise DataError(
                f"data.test_where takes structure {both[0]} for the test, which data.validation_indices has too "
                f"({len(both)} in all): take them out of validation_indices"
            )
        config = config.model_copy(update={"test_indices": matching})
    sizes = [len(found) for found in by_file] if config.from_each_file else [len(frames)]
    indices = _divide(config, sizes, set(lone))
    parts = {name: _choose(by_file, where) for name, where in indices.items()}
    for name in ("validation", "test"):
        files = getattr(config, name)
        if isinstance(files, str | tuple):
            if name in parts:
                raise DataError(f"data.{name} names files and data.{name}_indices is given too: keep one of them")
            sources = _read(listed(files), labels, config.streaming, of_atoms)
            parts[name] = _choose(sources)
            digest += b"".join(source.digest() for source in sources if isinstance(source, StreamedFrames))
    return Splits(parts["train"], parts["validation"], parts.get("test", []), isolated, indices, digest)


def _read(
    files: Sequence[str], labels: LabelConfig, streaming: bool, of_atoms: Container[str] | None
) -> list[Sequence[Frame]]:
    if streaming:
        return [StreamedFrames(path, labels) for path in files]
    return [read_frames(path, labels, of_atoms=of_atoms) for path in files]


def _choose(sources: Sequence[Sequence[Frame]], indices: Sequence[int] | None = None) -> Sequence[Frame]:
    """Frames at these positions of all sources together, by default all; held in memory if their sources are."""
    if any(isinstance(source, OnDemand) for source in sources):
        return pick_frames(sources, range(sum(map(len, sources))) if indices is None else indices)
    frames = [frame for source in sources for frame in source]
    return frames if indices is None else [frames[k] for k in indices]


def _matching(frames: Sequence[Frame], where: dict[str, str]) -> tuple[int, ...]:
    """Positions of the structures whose notes match every pattern."""
    found = [
        k
        for k, frame in enumerate(frames)
        if all(key in frame.atoms.info and fnmatch(str(frame.atoms.info[key]), text) for key, text in where.items())
    ]
    if not found:
        wanted = ", ".join(f"{key} = {text!r}" for key, text in where.items())
        known = sorted({str(key) for frame in frames for key in frame.atoms.info})
        raise DataError(f"no structure has data.test_where ({wanted}) in its notes: {', '.join(known) or 'none'}")
    return tuple(found)


def _divide(config: DataConfig, sizes: list[int], excluded: set[int]) -> dict[str, list[int]]:
    """Positions of each part; the draw is made in each of the groups of so many structures by itself."""
    total = sum(sizes)
    taken = {
        name: list(indices)
        for name in ("train", "validation", "test")
        if (indices := getattr(config, f"{name}_indices")) is not None
    }
    for name, indices in taken.items():
        if indices and max(indices) >= total:
            raise DataError(
                f"data.{name}_indices holds {max(indices)}, but the files have {total} structures (0 to {total - 1})"
            )
    used = excluded.union(*taken.values())
    draw = np.random.default_rng(config.split_seed)
    drawn: dict[str, list[int]] = {}
    for end, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
        pool = [k for k in range(end - size, end) if k not in used]
        order = [pool[k] for k in draw.permutation(len(pool))]
        for name, chosen in _draw(config, order, size, set(taken)).items():
            drawn.setdefault(name, []).extend(chosen)
    taken.update(drawn)
    if not taken["train"]:
        raise DataError(f"no structures are left for training: the files have {total}")
    return taken


def _draw(config: DataConfig, order: list[int], size: int, taken: set[str]) -> dict[str, list[int]]:
    """Divide one group, of ``size`` before indices were taken out, in the given order."""
    parts = {}
    for name in ("test", "validation"):
        wanted: Any = getattr(config, name)
        if name in taken or not isinstance(wanted, int | float):
            continue
        count = max(1, round(wanted * size)) if isinstance(wanted, float) else wanted
        if count > len(order):
            raise DataError(f"data.{name} = {wanted} asks for {count} structures, {len(order)} are left")
        parts[name], order = sorted(order[:count]), order[count:]
    if "train" not in taken:
        if config.num_train is not None and config.num_train > len(order):
            raise DataError(f"data.num_train = {config.num_train}, but {len(order)} structures are left for training")
        parts["train"] = sorted(order[: config.num_train])
    return parts
