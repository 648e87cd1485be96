"""Neighbor lists: all pairs of atoms closer than a cutoff, from scratch or reused while the atoms move.

An edge i→j with the integer shift S has the vector ``r_j − r_i + S·cell`` (Å, rows of ``cell`` are lattice
vectors) and exists when its squared length is below ``cutoff²``; a length equal to the cutoff is no edge.
Fresh and reused lists compute vectors and lengths with the same element-wise operations (:class:`_Candidates`),
so that both return the same edges, in the same order, with the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.geometry import minkowski_reduce
from matscipy.neighbours import neighbour_list
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Without periodicity and up to so many atoms, looking at every pair is faster than sorting atoms into bins.
_ALL_PAIRS_ATOMS = 100
# Up to so many, filtering every pair is even faster than checking how far the atoms have moved.
_STATIC_ATOMS = 32
# float64 resolves 1e-7 Å at this distance from the origin; farther out, interatomic distances are noise.
_LARGEST_COORDINATE = 1e9
# Lattice vectors of unit length whose smallest singular value is below this span no cell.
_DEPENDENT = 1e-8
# matscipy allocates every bin of the box (8 bytes each), empty or not.
_MAX_BINS = 2**20
# More candidates than this, and more than any condensed phase has around one atom, is a mistake in the cell.
_MAX_CANDIDATES = 2e8
_MAX_CANDIDATES_PER_ATOM = 1e5


def neighbor_list(
    positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float
) -> tuple[Integers, Floats, Integers]:
    """All directed pairs of atoms closer than the cutoff, periodic images included.

    Exact for every mix of periodic directions, skewed and left-handed cells, cells smaller than the cutoff and atoms
    anywhere outside the cell. Lattice vectors of non-periodic directions are ignored and may be zero.

    Parameters
    ----------
    positions : array_like
        (N, 3), Å.
    cell : array_like
        (3, 3), rows are lattice vectors in Å.
    pbc : array_like
        (3,) bool, or one bool for all three directions.
    cutoff : float
        Å, positive.

    Returns
    -------
    edge_index : numpy.ndarray
        (2, E) int64: row 0 the centre i, row 1 the neighbor j; sorted by i, then j, then shift.
    edge_vectors : numpy.ndarray
        (E, 3) float64, ``r_j − r_i + S·cell`` in Å. Zero for two atoms at one point.
    shifts : numpy.ndarray
        (E, 3) int64, the lattice translation S of the neighbor; zero in non-periodic directions.

    Raises
    ------
    ValueError
        Wrong shapes; coordinates that are not finite or beyond 1e9 Å; a periodic direction without a lattice vector
        of its own; a cutoff that is not a positive number; a cell so small that the list would not fit into memory.

    References
    ----------
    Skewed lattices are reduced first: Nguyen and Stehlé, ACM Trans. Algorithms 5, 46 (2009),
    doi:10.1145/1597036.1597050.
    """
    cutoff = _checked_length("cutoff", cutoff, zero=False)
    positions, cell, pbc = _checked_structure(positions, cell, pbc)
    candidates = _find_candidates(positions, cell, pbc, cutoff)
    edge_index, edge_vectors, selected = candidates.within(positions, cell, cutoff)
    return edge_index, edge_vectors, candidates.shifts.take(candidates.shift_index.take(selected), axis=0)


@dataclass
class NeighborStatistics:
    """What a :class:`VerletList` has done so far.

    Attributes
    ----------
    builds, reuses : int
        Updates that searched from scratch, and updates that filtered the list at hand.
    num_edges : int
        Edges of the last update.
    num_candidates : int
        Pairs in the list at hand, skin included.
    """

    builds: int = 0
    reuses: int = 0
    num_edges: int = 0
    num_candidates: int = 0


class VerletList:
    r"""Neighbor list that is reused, exactly, while atoms and cell move little.

    Pairs closer than ``cutoff + skin`` are stored; :meth:`update` returns those of them that are edges now, bitwise
    what :func:`neighbor_list` returns. A stored list is reused as long as no edge can be missing from it.

    Proof of the rule. Let A and B be the (p, 3) *periodic* lattice vectors when the list was built and now, p = 0 to
    3, and F any linear map with A F = B. Write the positions now as r_i = r_i,ref F + u_i. Shifts S are zero along
    non-periodic directions, so the vector of every pair is

    .. math:: v = r_j - r_i + S B = (r_{j,ref} - r_{i,ref} + S A) F + u_j - u_i = v_{ref} F + u_j - u_i,
              \qquad |v| \ge \sigma_{min}(F)\,|v_{ref}| - 2 \max_k |u_k| .

    A pair that was not stored had \|v_ref\| ≥ cutoff + skin. It is no edge now if
    ``σ_min(F) (cutoff + skin) − 2 max|u| ≥ cutoff``, and this is the rule. Only A F = B was used: vectors of the cell
    along non-periodic directions do not enter. ``F = 1 + A⁺ (B − A)`` has this property, because A A⁺ = 1 for
    independent rows; of all such maps it is the nearest to the identity. It is ``inv(cell_ref) @ cell`` for p = 3 and
    the identity for a molecule. Atoms wrapped into the cell count as having moved, by exactly a lattice vector: the
    proof covers them, and a list is searched anew where the lattice vector is longer than the skin allows.

    Parameters
    ----------
    cutoff : float
        Å, positive.
    skin : float
        Å, zero or positive. Zero searches at every update.

    Attributes
    ----------
    statistics : NeighborStatistics
        Builds and reuses so far, sizes of the list.

    Raises
    ------
    ValueError
        If cutoff or skin is not such a number.

    References
    ----------
    Verlet, Phys. Rev. 159, 98 (1967), doi:10.1103/PhysRev.159.98.
    """

    def __init__(self, cutoff: float, skin: float = 1.0) -> None:
        self.cutoff = _checked_length("cutoff", cutoff, zero=False)
        self.skin = _checked_length("skin", skin, zero=True)
        self.statistics = NeighborStatistics()
        self._candidates: _Candidates | None = None

    def update(self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> tuple[Integers, Floats]:
        """Return ``edge_index`` (2, E) and ``edge_vectors`` (E, 3) of the structure as it is now.

        Parameters, order, units and errors are those of :func:`neighbor_list`. The arrays are the caller's own.
        """
        positions, cell, pbc = _checked_structure(positions, cell, pbc)
        candidates = self._candidates
        if candidates is not None and self._is_reusable(positions, cell, pbc):
            self.statistics.reuses += 1
        else:
            candidates = self._build(positions, cell, pbc)
        edge_index, edge_vectors, _ = candidates.within(positions, cell, self.cutoff)
        self.statistics.num_edges = edge_index.shape[1]
        return edge_index, edge_vectors

    def _build(self, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> _Candidates:
        # May raise, and then the old list must stay whole: it is replaced below, all of it.
        candidates = _find_candidates(positions, cell, pbc, self.cutoff + self.skin)
        self._static = not pbc.any() and len(positions) <= _STATIC_ATOMS  # a list of every pair never misses one
        self._positions, self._pbc, self._lattice = positions.copy(), pbc.copy(), cell[pbc]
        self._lattice_inverse = np.linalg.pinv(self._lattice)
        self._candidates = candidates
        self.statistics.builds += 1
        self.statistics.num_candidates = candidates.edge_index.shape[1]
        return candidates

    def _is_reusable(self, positions: Floats, cell: Floats, pbc: NDArray[np.bool_]) -> bool:
        if self.skin == 0 or positions.shape != self._positions.shape or (pbc != self._pbc).any():
            return False
        if self._static or len(positions) == 0:
            return True
        strain = cell[pbc] - self._lattice
        if strain.any():
            deformation = np.eye(3) + self._lattice_inverse @ strain
            smallest_stretch = float(np.linalg.svd(deformation, compute_uv=False)[-1])
            moved = positions - self._positions @ deformation
        else:
            smallest_stretch = 1.0
            moved = positions - self._positions
        displacement = math.sqrt(np.einsum("ix,ix->i", moved, moved).max())
        return smallest_stretch * (self.cutoff + self.skin) - 2 * displacement >= self.cutoff


class _Candidates:
    """Pairs that may be edges, in the final order, and the filter that keeps the edges.

    ``edge_index`` (2, C); ``shifts`` (M, 3) the distinct lattice translations; ``shift_index`` (C,) into them.
    """

    def __init__(self, edge_index: Integers, shifts: Integers, shift_index: Integers) -> None:
        self.edge_index, self.shifts, self.shift_index = edge_index, shifts, shift_index
        self._factors = shifts.astype(np.float64).T[:, :, None]  # (3, M, 1)
        self._translates = bool(shifts.any())
        # Reused at every step: allocating arrays of this size costs as much as the arithmetic.
        self._vectors = np.empty((edge_index.shape[1], 3))
        self._scratch = np.empty_like(self._vectors)

    def within(self, positions: Floats, cell: Floats, cutoff: float) -> tuple[Integers, Floats, Integers]:
        """Return ``edge_index``, ``edge_vectors`` and the indices of the candidates that are edges.

        Element-wise operations only: matmul and einsum may sum a row in another order, or fused, when the number of
        rows changes, and a pair at the cutoff would then be an edge in one list and not in another. r_j − r_i comes
        first so that v_ji = −v_ij to the last bit: an edge always has its reverse.
        """
        vectors, scratch = self._vectors, self._scratch
        # mode="clip" (indices are in range) lets take() write into `out` without a copy of its own.
        positions.take(self.edge_index[1], axis=0, out=vectors, mode="clip")
        positions.take(self.edge_index[0], axis=0, out=scratch, mode="clip")
        np.subtract(vectors, scratch, out=vectors)
        if self._translates:
            a, b, c = self._factors
            (a * cell[0] + b * cell[1] + c * cell[2]).take(self.shift_index, axis=0, out=scratch, mode="clip")
            np.add(vectors, scratch, out=vectors)
        x, y, z = vectors.T
        squared = x * x
        squared += y * y
        squared += z * z
        selected = np.flatnonzero(squared < cutoff * cutoff)
        return self.edge_index.take(selected, axis=1), vectors.take(selected, axis=0), selected


def _find_candidates(positions: Floats, cell: Floats, pbc: NDArray[np.bool_], reach: float) -> _Candidates:
    """All pairs closer than ``reach``, and some that are farther apart."""
    num_periodic = int(pbc.sum())
    if len(positions) == 0 or (num_periodic == 0 and len(positions) <= _ALL_PAIRS_ATOMS):
        return _all_pairs(len(positions))
    frame, reduction, conditioning = _reduced_frame(cell, pbc)
    # Rounding, here and in the vectors of the edges, must not lose a pair: reach a little farther. The smallest
    # singular value bounds |S|·|cell| by lengths (|S_k| ≤ length / height_k, height_k ≥ σ_min |cell_k|).
    lengths = np.abs(positions).max() + reach + np.abs(frame).max()
    reach += 64 * np.finfo(np.float64).eps * lengths / conditioning

    inside = positions @ np.linalg.inv(frame)  # fractional if periodic, else Å along a unit normal
    home = np.floor(inside[:, :num_periodic])
    inside[:, :num_periodic] -= home
    for k in range(num_periodic, 3):
        inside[:, k] = _close_gaps(inside[:, k], reach)
        # The box around the atoms is for the search alone. It must not be flat.
        extent = inside[:, k].max() + 1.0
        frame[k] *= extent
        inside[:, k] /= extent
    i, j, image = neighbour_list(
        "ijS",
        positions=inside @ frame,
        cell=frame,
        pbc=np.arange(3) < num_periodic,
        cutoff=_affordable_reach(frame, num_periodic, len(positions), reach),
    )
    home = home.astype(np.int64)
    shifts = np.zeros((len(i), 3), dtype=np.int64)
    shifts[:, pbc] = (image[:, :num_periodic] + home[i] - home[j]) @ reduction
    return _sorted_candidates(i, j, shifts)


def _all_pairs(num_atoms: int) -> _Candidates:
    pairs = np.stack(np.nonzero(~np.eye(num_atoms, dtype=bool))).astype(np.int64)
    return _Candidates(pairs, np.zeros((1, 3), dtype=np.int64), np.zeros(pairs.shape[1], dtype=np.int64))


def _sorted_candidates(i: NDArray[np.int32], j: NDArray[np.int32], shifts: Integers) -> _Candidates:
    """Sort by i, j, shift: the order must not depend on where the atoms were when the list was built."""
    if len(i) == 0:
        return _all_pairs(0)
    lowest = shifts.min(axis=0)
    span = shifts.max(axis=0) - lowest + 1
    if math.prod(span.tolist()) < 2**62:
        a, b, c = (shifts - lowest).T
        code = (a * span[1] + b) * span[2] + c
    else:  # atoms many cells apart
        code = np.unique(shifts, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((code, j, i))
    _, first, shift_index = np.unique(code[order], return_index=True, return_inverse=True)
    edge_index = np.stack([i[order], j[order]]).astype(np.int64)
    return _Candidates(edge_index, shifts[order[first]], shift_index.reshape(-1))


def _reduced_frame(cell: Floats, pbc: NDArray[np.bool_]) -> tuple[Floats, Integers, float]:
    """Short vectors of the same lattice, completed by unit normals along the non-periodic directions.

    matscipy inverts the cell, which fails where a vector is zero and is inaccurate where a non-periodic one is nearly
    parallel to the others. It loops over all images in a parallelepiped that contains the cutoff sphere: hours for
    very skewed vectors, nothing for the same lattice reduced.

    Returns
    -------
    frame : numpy.ndarray
        (3, 3), p reduced lattice vectors, then 3 − p unit normals.
    reduction : numpy.ndarray
        (p, p) int64, ``frame[:p] = reduction @ cell[pbc]``.
    conditioning : float
        Smallest singular value of the lattice vectors scaled to unit length, 1 for orthogonal ones.
    """
    lattice = cell[pbc]
    num_periodic = len(lattice)
    if num_periodic == 0:
        return np.eye(3), np.eye(0, dtype=np.int64), 1.0
    norms = np.linalg.norm(lattice, axis=1)
    if not norms.all():
        axis = "abc"[np.flatnonzero(pbc)[norms == 0][0]]
        raise ValueError(
            f"periodic along {axis}, but this cell vector is zero: set pbc to False there or give the cell vector in Å"
        )
    _, singular_values, directions = np.linalg.svd(lattice / norms[:, None])
    if singular_values[-1] < _DEPENDENT:
        raise ValueError(
            f"periodic cell vectors {lattice.tolist()} Å are linearly dependent: "
            "give independent vectors or set pbc to False along one of them"
        )
    frame = np.concatenate([lattice, directions[num_periodic:]])
    if num_periodic == 1:
        return frame, np.eye(1, dtype=np.int64), 1.0
    reduced, reduction = minkowski_reduce(frame, pbc=np.arange(3) < num_periodic)
    frame[:num_periodic] = reduced[:num_periodic]
    return frame, reduction[:num_periodic, :num_periodic].astype(np.int64), float(singular_values[-1])


def _close_gaps(coordinate: Floats, width: float) -> Floats:
    """Shift atoms along one non-periodic direction so that they start at 0 with no gap wider than ``width``.

    Pairs across a gap remain too far apart to be neighbors and all others keep their distance; a fragment that has
    flown away no longer makes the box, and matscipy's memory, huge.
    """
    order = np.argsort(coordinate)
    ascending = coordinate[order]
    closed = np.zeros_like(coordinate)
    # A sum of the excess alone: atoms with no wide gap between them are shifted by bitwise the same amount.
    closed[order[1:]] = np.cumsum(np.maximum(np.diff(ascending) - width, 0.0))
    return (coordinate - ascending[0]) - closed


def _affordable_reach(frame: Floats, num_periodic: int, num_atoms: int, reach: float) -> float:
    """``reach``, or more where matscipy would allocate far more bins than there are atoms.

    Raises
    ------
    ValueError
        If the cell is so small that the list would not fit into memory.
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(frame), axis=0)
    asked = reach
    while (bins := np.maximum(np.floor(heights / reach), 1.0)).prod() > max(_MAX_BINS, 8 * num_atoms):
        reach *= 1.5
    images = 2 * np.ceil(reach * bins / heights) + 1
    images[num_periodic:] = np.minimum(images[num_periodic:], bins[num_periodic:])
    per_atom = float(num_atoms * (images / bins).prod())
    if per_atom > _MAX_CANDIDATES_PER_ATOM and per_atom * num_atoms > _MAX_CANDIDATES:
        raise ValueError(
            f"about {per_atom:.1e} periodic images of atoms lie around each atom within {asked:g} Å, the shortest "
            f"lattice vectors being {np.linalg.norm(frame[:num_periodic], axis=1).round(6).tolist()} Å: "
            "the cell is too small, check it and its unit"
        )
    return float(reach)


def _checked_length(name: str, value: float, *, zero: bool) -> float:
    value = float(value)
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        allowed = "a finite length in Å, zero or positive" if zero else "a finite positive length in Å"
        raise ValueError(f"{name} is {value}: it must be {allowed}")
    return value


def _checked_structure(
    positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    cell = np.ascontiguousarray(cell, dtype=np.float64)
    pbc = np.asarray(pbc, dtype=bool)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions have shape {positions.shape}: give an array of shape (number of atoms, 3)")
    if cell.shape != (3, 3):
        raise ValueError(f"cell has shape {cell.shape}: give three lattice vectors as rows, shape (3, 3)")
    if pbc.shape != (3,):
        if pbc.shape != ():
            raise ValueError(f"pbc has shape {pbc.shape}: give one bool or three, one for each cell vector")
        pbc = np.full(3, pbc)
    # Written so that NaN fails the comparison.
    if not np.abs(positions).max(initial=0.0) <= _LARGEST_COORDINATE:
        atom = int(np.flatnonzero(~(np.abs(positions) <= _LARGEST_COORDINATE).all(axis=1))[0])
        raise ValueError(
            f"atom {atom} is at {positions[atom].tolist()} Å: coordinates must be finite and within "
            f"{_LARGEST_COORDINATE:g} Å of the origin; go back to the last good structure or wrap the atoms"
        )
    if not np.abs(cell).max() <= _LARGEST_COORDINATE:
        raise ValueError(
            f"cell is {cell.tolist()} Å: its entries must be finite and at most {_LARGEST_COORDINATE:g} Å; "
            "give zeros along directions without a cell vector"
        )
    return positions, cell, pbc
