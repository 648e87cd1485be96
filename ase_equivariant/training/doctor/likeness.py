"""How alike structures are: distances of fingerprints, in blocks, so that memory stays small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BLOCK = 512
# Two structures whose sorted distances differ by less (Å) are one: files keep four decimals or more.
SAME = 5e-4
# A frame is near another if it is this part of the usual distance of two frames away; nearer than this (Å), too, and
# with so small a probability by chance, it is the other with noise, or the next of a trajectory.
NEAR, NEARLY, _BY_CHANCE = 0.1, 0.005, 1e-3


def squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Mean squared differences of fingerprints (A, D) and (B, D), block by block of rows of ``a``.

    Yields
    ------
    first : int
        Row of ``a`` the block starts at.
    squared : ndarray
        (rows, B), Å².
    """
    norms = np.einsum("bd,bd->b", b, b)
    for first in range(0, len(a), _BLOCK):
        rows = a[first : first + _BLOCK]
        squared = np.einsum("ad,ad->a", rows, rows)[:, None] + norms - 2 * rows @ b.T
        yield first, np.maximum(squared, 0.0) / a.shape[1]


def nearest(a: np.ndarray, b: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Index and root mean square difference (Å) of the row of ``b`` nearest to each row of ``a``.

    Without ``b``, the nearest other row of ``a``, which then needs two rows.
    """
    indices, distances = np.empty(len(a), dtype=int), np.empty(len(a))
    for first, squared in squared_distances(a, a if b is None else b):
        rows = np.arange(len(squared))
        if b is None:
            squared[rows, first + rows] = np.inf
        best = squared.argmin(axis=1)
        indices[first + rows], distances[first + rows] = best, np.sqrt(squared[rows, best])
    return indices, distances


def usual_distance(a: np.ndarray) -> float:
    """Root mean square distance of two random rows, Å."""
    return float(np.sqrt(2 * a.var(axis=0).mean()))


def near_limit(usual: float, pairs: int, num_atoms: int) -> float:
    """Distance (Å) below which a frame is nearly another: among so many pairs none is by chance.

    Of independent frames with D degrees of freedom a part of ``ratio ** D`` is nearer than ``ratio`` times the usual
    distance: much for water and a thousand frames, nothing for ten atoms.
    """
    return min(NEARLY, usual * min(NEAR, (_BY_CHANCE / pairs) ** (1 / max(3 * num_atoms - 6, 1))))


def same_pairs(a: np.ndarray, b: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Rows of ``a`` and ``b`` (or of ``a`` twice, the smaller first) with no entry farther apart than ``SAME``."""
    other = a if b is None else b
    pairs = []
    for first, squared in squared_distances(a, other):
        for row, column in np.argwhere(squared <= (1.5 * SAME) ** 2):
            i, j = int(first + row), int(column)
            if (b is not None or i < j) and np.abs(a[i] - other[j]).max() <= SAME:
                pairs.append((i, j))
    return pairs
