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
        (n,) the engine's row of every atom that matters here: the local atoms, then those of other processes that are
        within cutoff + skin of one, each once whatever the number of its images.
    num_others : int
        How many are of other processes.
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
        names: Integers = np.array(tags, dtype=np.int64)
        seen = np.flatnonzero(np.bincount(pairs[1]))
        order = np.argsort(names[:num_local], kind="stable")
        place = np.searchsorted(names[:num_local], names[seen], sorter=order)
        is_local = place < num_local
        is_local[is_local] = names[order[place[is_local]]] == names[seen[is_local]]
        # Images of local atoms are those atoms; of another process's atom it is enough to know one image.
        others, first, of_image = np.unique(names[seen[~is_local]], return_index=True, return_inverse=True)
        self.rows = np.concatenate([np.arange(num_local), seen[~is_local][first]])
        self.num_others = len(others)
        atoms = np.empty(len(positions), dtype=np.int64)
        atoms[seen[is_local]] = order[place[is_local]]
        atoms[seen[~is_local]] = num_local + of_image
        self._pairs, self._atoms = pairs, np.stack([pairs[0], atoms[pairs[1]]])
        self._positions, self._tags, self._num_local = positions.copy(), names, num_local

    def edges(self, positions: Floats) -> tuple[Integers, Floats]:
        """``edge_index`` (2, E) into :attr:`rows` and ``edge_vectors`` (E, 3) in Å, of the engine's rows' positions."""
        vectors = positions.take(self._pairs[1], axis=0)
        vectors -= positions.take(self._pairs[0], axis=0)
        near = np.flatnonzero(np.einsum("ix,ix->i", vectors, vectors) < self._cutoff**2)
        return self._atoms.take(near, axis=1), vectors.take(near, axis=0)
