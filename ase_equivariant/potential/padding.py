"""Rows with room for whole vectors: where each channel of an irrep goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ase_equivariant.irreps import Block, Irrep


@dataclass(frozen=True)
class PaddedBlock:
    """One irrep of a padded row: component m of its true channel u lies at ``offset + m · width + columns[u]``.

    The channels may fall into segments, each padded by itself, so that whatever reads a segment finds it aligned.
    """

    block: Block
    offset: int
    width: int
    columns: NDArray[np.int64]

    @property
    def components(self) -> int:
        """2l+1."""
        return self.block.num_components

    def positions(self) -> NDArray[np.int64]:
        """(2l+1, mul) places of the true elements in the row."""
        return self.offset + self.width * np.arange(self.components)[:, None] + self.columns[None, :]


@dataclass(frozen=True)
class PaddedRow:
    """The padded form of merged irreps."""

    blocks: tuple[PaddedBlock, ...]
    dim: int

    def __getitem__(self, irrep: Irrep) -> PaddedBlock:
        """The block of an irrep that the row has."""
        return next(padded for padded in self.blocks if padded.block.irrep == irrep)

    def places(self) -> NDArray[np.int64]:
        """(irreps.dim,) where each true element of a row goes."""
        return np.concatenate([padded.positions().ravel() for padded in self.blocks])

    def pad(self, rows: NDArray) -> NDArray:
        """(N, irreps.dim) → (N, dim), zero where nothing is."""
        result = np.zeros((len(rows), self.dim), dtype=rows.dtype)
        for padded in self.blocks:
            part = rows[:, padded.block.slice].reshape(len(rows), padded.components, padded.block.mul)
            result[:, padded.positions()] = part
        return result


def whole_vectors(length: int, lanes: int) -> int:
    """The next multiple of ``lanes``."""
    return -(-length // lanes) * lanes


def pad_row(blocks: Sequence[Block], lanes: int, segments: Mapping[Irrep, Sequence[int]] | None = None) -> PaddedRow:
    """Lay out ``blocks``; ``segments`` cuts the channels of an irrep into runs of given lengths."""
    padded, offset = [], 0
    for block in blocks:
        columns, width = [], 0
        for length in (segments or {}).get(block.irrep, [block.mul]):
            columns.append(width + np.arange(length))
            width += whole_vectors(length, lanes)
        padded.append(PaddedBlock(block, offset, width, np.concatenate(columns)))
        offset += width * block.num_components
    return PaddedRow(tuple(padded), offset)
