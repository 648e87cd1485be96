"""One process's part of a structure: local atoms, the ghosts that they see, and the edges between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ase_equivariant.graph.neighbors import neighbor_list

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Domain:
    """Edges from local atoms to their neighbours, local or ghost, by the positions of both.

    Periodicity is the engine's: images are ghosts with positions of their own. Pairs closer than cutoff + skin are
    kept; no edge is missing from them until two rows have come closer by the skin, so it is enough to search again
    when one has moved by half of it.

    Parameters
    ----------
    cutoff, skin : float
        Å.

    Attributes
    ----------
    rows : numpy.ndarray
        (n,) of the engine's rows those that matter here: the local atoms, then the ghosts that are within cutoff +
        skin of one.
    """

    def __init__(self, cutoff: float, skin: float):
        self._cutoff, self._skin = cutoff, skin
        self._tags: Integers | None = None
        self._num_local = 0

    def is_stale(self, positions: Floats, tags: NDArray[np.integer], num_local: int) -> bool:
        """Whether :meth:`build` must come before :meth:`edges`, the rows being other atoms or too far from where
        they were: positions (N, 3) in Å, tags (N,), local atoms first.
        """
        if self._tags is None or num_local != self._num_local or not np.array_equal(tags, self._tags):
            return True
        moved = positions - self._positions
        # Written so that NaN counts as having moved.
        return not np.einsum("ix,ix->i", moved, moved).max(initial=0.0) < (0.5 * self._skin) ** 2

    def build(self, positions: Floats, tags: NDArray[np.integer], num_local: int) -> None:
        """Search the pairs of these rows.

        Raises
        ------
        ValueError
            If positions are not finite.
        """
        pairs, _, _ = neighbor_list(positions, np.zeros((3, 3)), False, self._cutoff + self._skin)
        pairs = pairs[:, : np.searchsorted(pairs[0], num_local)]  # sorted by centre
        ghosts = np.unique(pairs[1][pairs[1] >= num_local])
        self.rows = np.concatenate([np.arange(num_local), ghosts])
        place = np.empty(len(positions), dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))
        self._pairs = np.stack([pairs[0], place[pairs[1]]])
        self._positions, self._tags, self._num_local = positions.copy(), np.array(tags, dtype=np.int64), num_local

    def edges(self, positions: Floats) -> tuple[Integers, Floats]:
        """``edge_index`` (2, E) into :attr:`rows` and ``edge_vectors`` (E, 3) in Å, of the engine's rows' positions."""
        here = positions[self.rows]
        vectors = here[self._pairs[1]] - here[self._pairs[0]]
        near = np.flatnonzero(np.einsum("ix,ix->i", vectors, vectors) < self._cutoff**2)
        return self._pairs[:, near], vectors[near]
