"""How atoms are spread around each other: distances in molecules h(r), radial distributions g(r) in periodic cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list

from ase_equivariant.recipes.frames import check_frames


@dataclass(frozen=True)
class DistanceDistribution:
    """Probability density of the distance of two atoms.

    Attributes
    ----------
    r_A : ndarray
        (bins,) middles in Å.
    h_per_A : ndarray
        (bins,) 1/Å; the integral is the share of pairs within range, 1 if ``r_max`` exceeds all distances.
    num_frames : int
        Averaged over.
    """

    r_A: np.ndarray
    h_per_A: np.ndarray
    num_frames: int


def distance_distribution(frames: Sequence[Atoms], r_max: float = 10.0, bins: int = 500) -> DistanceDistribution:
    """Distribution h(r) of all interatomic distances of a molecule, periodic images left out.

    Parameters
    ----------
    frames : sequence of Atoms
        Without periodic boundaries.
    r_max, bins : float, int
        Å; the range is divided into equal bins.

    Raises
    ------
    ValueError
        If the frames are periodic, or of different atoms.

    References
    ----------
    Fu et al., arXiv:2210.07237 (2022).
    """
    check_frames(frames)
    if frames[0].pbc.any():
        raise ValueError("h(r) is of molecules without periodic boundaries: use radial_distribution for periodic cells")
    if len(frames[0]) < 2:
        raise ValueError("there is one atom: distances need two")
    edges = _edges(r_max, bins)
    i, j = np.triu_indices(len(frames[0]), k=1)
    counts = np.zeros(bins)
    for frame in frames:
        counts += np.histogram(np.linalg.norm(frame.positions[i] - frame.positions[j], axis=1), edges)[0]
    density = counts / (len(frames) * len(i) * (edges[1] - edges[0]))
    return DistanceDistribution(_middles(edges), density, len(frames))


def distribution_difference(a: DistanceDistribution, b: DistanceDistribution) -> float:
    """∫ |h_a − h_b| dr: 0 for equal distributions, 2 for such that nowhere overlap.

    Raises
    ------
    ValueError
        If the bins differ.
    """
    if not np.array_equal(a.r_A, b.r_A):
        raise ValueError("the distributions have different bins: compute both with the same r_max and bins")
    return float(np.abs(a.h_per_A - b.h_per_A).sum() * (a.r_A[1] - a.r_A[0]))


@dataclass(frozen=True)
class RadialDistribution:
    """Radial distribution functions.

    Attributes
    ----------
    r_A : ndarray
        (bins,) middles in Å.
    g : ndarray
        (bins,) of all atoms; 1 where there is no order.
    partials : dict of str to ndarray
        By pair of elements, such as "H-O", in alphabetical order.
    density_per_A3 : dict of str to float
        Number density by element, averaged over frames.
    num_frames : int
        Averaged over.
    """

    r_A: np.ndarray
    g: np.ndarray
    partials: dict[str, np.ndarray]
    density_per_A3: dict[str, float]
    num_frames: int

    def coordination(self, centre: str, neighbour: str) -> np.ndarray:
        """(bins,) mean number of ``neighbour`` atoms around a ``centre`` atom up to each bin's outer edge."""
        g = self.partials["-".join(sorted((centre, neighbour)))]
        width = self.r_A[1] - self.r_A[0]
        outer = self.r_A + width / 2
        shells = 4 / 3 * np.pi * (outer**3 - (outer - width) ** 3)
        return np.cumsum(g * shells) * self.density_per_A3[neighbour]


def radial_distribution(
    frames: Sequence[Atoms], r_max: float | None = None, bins: int | None = None
) -> RadialDistribution:
    """Radial distribution functions g(r), of all atoms and by pair of elements.

    Parameters
    ----------
    frames : sequence of Atoms
        Periodic in all directions; the cell may change.
    r_max : float, optional
        Å, default :func:`default_range_A`. Beyond half a cell's height, atoms see their own images.
    bins : int, optional
        Default one for each 0.02 Å.

    Raises
    ------
    ValueError
        If the frames are not periodic, or of different atoms.

    References
    ----------
    Allen and Tildesley, Computer Simulation of Liquids (1987), section 2.6.
    """
    check_frames(frames)
    if not all(frame.pbc.all() and frame.cell.rank == 3 for frame in frames):
        raise ValueError("g(r) needs cells that are periodic in all directions: molecules have distance_distribution")
    r_max = default_range_A(frames) if r_max is None else r_max
    bins = max(1, round(r_max / 0.02)) if bins is None else bins
    edges = _edges(r_max, bins)
    elements, kinds = np.unique(frames[0].get_chemical_symbols(), return_inverse=True)
    count = len(elements)
    counts = np.zeros((count * count, bins))
    inverse_volume = 0.0
    for frame in frames:
        i, j, d = neighbour_list("ijd", frame, r_max)
        bin_of = np.minimum((d / (edges[1] - edges[0])).astype(int), bins - 1)
        flat = (kinds[i] * count + kinds[j]) * bins + bin_of
        volume = frame.get_volume()
        counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape) * volume
        inverse_volume += 1 / volume
    # An ideal gas of the same density has N_a N_b / V · shell pairs.
    ideal = len(frames) * 4 / 3 * np.pi * np.diff(edges**3)
    numbers = Counter(frames[0].get_chemical_symbols())
    partials = {
        f"{a}-{b}": counts[p * count + q] / (ideal * numbers[a] * numbers[b])
        for p, a in enumerate(elements)
        for q, b in enumerate(elements)
        if p <= q
    }
    density = {str(a): numbers[a] * inverse_volume / len(frames) for a in elements}
    return RadialDistribution(
        _middles(edges), counts.sum(axis=0) / (ideal * len(frames[0]) ** 2), partials, density, len(frames)
    )


def _edges(r_max: float, bins: int) -> np.ndarray:
    if not r_max > 0 or bins < 2:
        raise ValueError(f"r_max = {r_max} Å and bins = {bins}: use r_max > 0 and at least 2 bins")
    return np.linspace(0.0, r_max, bins + 1)


def _middles(edges: np.ndarray) -> np.ndarray:
    return (edges[1:] + edges[:-1]) / 2


def default_range_A(frames: Sequence[Atoms]) -> float:
    """Half the smallest height of the cells, but 6 Å at least, so that small cells of crystals show neighbours."""
    return max(6.0, min(_half_height(frame) for frame in frames))


def _half_height(frame: Atoms) -> float:
    return float(frame.get_volume() / np.linalg.norm(np.cross(*_other_vectors(frame)), axis=-1).max() / 2)


def _other_vectors(frame: Atoms) -> tuple[np.ndarray, np.ndarray]:
    cell = frame.cell.array
    return np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0)
