"""Which structures train, which validate, which test."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np

from ase_equivariant.training.config import DataConfig
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import DataError, read_frames


@dataclass(frozen=True)
class Splits:
    """Frames by use, and the lone atoms put aside.

    ``indices`` says which positions of the ``train`` files each part took; parts that come
    from files of their own are not in it.
    """

    train: list[Frame]
    validation: list[Frame]
    test: list[Frame]
    isolated_atoms: list[Frame]
    indices: dict[str, list[int]]


def make_splits(config: DataConfig) -> Splits:
    """Read the files and divide the structures as configured; the draw depends on ``split_seed`` alone.

    Raises
    ------
    DataError
        If files cannot be read or hold too few structures.
    """
    labels = config.label_config()
    files = [config.train] if isinstance(config.train, str) else config.train
    by_file = [read_frames(path, labels) for path in files]
    frames = [frame for found in by_file for frame in found]
    lone = [k for k, frame in enumerate(frames) if frame.is_isolated_atom and config.references == "isolated_atoms"]
    isolated = [frames[k] for k in lone]
    if config.isolated_atoms is not None:
        isolated += read_frames(config.isolated_atoms, labels)
    if config.test_where is not None:
        config = config.model_copy(update={"test_indices": _matching(frames, config.test_where)})
    sizes = [len(found) for found in by_file] if config.from_each_file else [len(frames)]
    indices = _divide(config, sizes, set(lone))
    parts = {name: [frames[k] for k in chosen] for name, chosen in indices.items()}
    for name in ("validation", "test"):
        files = getattr(config, name)
        if isinstance(files, str | tuple):
            if name in parts:
                raise DataError(f"data.{name} names files and data.{name}_indices is given too: keep one of them")
            parts[name] = read_frames(files, labels)
    return Splits(parts["train"], parts["validation"], parts.get("test", []), isolated, indices)


def _matching(frames: list[Frame], where: dict[str, str]) -> tuple[int, ...]:
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
