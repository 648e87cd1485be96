"""What the checks need to know of one structure's neighbourhoods, from one neighbour list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ase_equivariant.graph.neighbors import neighbor_list

# An atom without a neighbour in this distance (Å) is alone; no longer distance is in a fingerprint.
REACH = 6.0
# ``Geometry.asymmetry`` above which a force is to be expected.
ASYMMETRIC = 0.02
_RANKS = 8


@dataclass(frozen=True)
class Geometry:
    """Neighbourhoods of one structure of N atoms and S elements.

    Attributes
    ----------
    nearest : ndarray
        (N,) distance to the nearest neighbour, Å; infinite beyond ``REACH``.
    neighbor : ndarray
        (N,) which atom that is, −1 if there is none.
    direction : ndarray
        (N, 3) unit vector to it.
    closeness : float
        Smallest distance of two atoms over the sum of their covalent radii; infinite if all are alone.
    shortest : float
        Smallest distance of two atoms, Å.
    asymmetry : ndarray
        (N,) length of ``Σ_j (1 − r_j/REACH)² r_j/|r_j|``: zero where symmetry forbids a force.
    ideal : bool
        Whether this is a crystal, strained perhaps, whose atoms of one element have equal neighbourhoods.
    fingerprint : ndarray
        (N · S · 8,) distances, Å, to the eight nearest neighbours of each element, capped at ``REACH`` and sorted
        over the atoms of an element: the same for rotated, reflected, shifted and permuted copies, and no more
        than twice as far from another's as an atom has moved.
    """

    nearest: np.ndarray
    neighbor: np.ndarray
    direction: np.ndarray
    closeness: float
    shortest: float
    asymmetry: np.ndarray
    ideal: bool
    fingerprint: np.ndarray


def geometry_of(atoms: Atoms) -> Geometry:
    """Look at the neighbourhoods of every atom."""
    (centre, other), vectors, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, REACH)
    distances = np.sqrt(np.einsum("ex,ex->e", vectors, vectors))
    n, numbers = len(atoms), atoms.numbers
    species, kind = np.unique(numbers, return_inverse=True)

    ranked = _ranked(centre, kind[other], distances, (n, len(species)), _RANKS).reshape(n, -1)
    fingerprint = [np.sort(ranked[kind == k], axis=0).ravel() for k in range(len(species))]

    units = vectors / np.maximum(distances, 1e-12)[:, None]
    weighted = units * ((1 - distances / REACH) ** 2)[:, None]
    resultant = np.stack([np.bincount(centre, weighted[:, x], n) for x in range(3)], axis=1)

    by_distance = np.lexsort((distances, centre))
    first = by_distance[np.unique(centre[by_distance], return_index=True)[1]]
    nearest, neighbor, direction = np.full(n, np.inf), np.full(n, -1), np.zeros((n, 3))
    which = centre[first]
    nearest[which], neighbor[which], direction[which] = distances[first], other[first], units[first]
    bonds = covalent_radii[numbers[centre]] + covalent_radii[numbers[other]]
    return Geometry(
        nearest=nearest,
        neighbor=neighbor,
        direction=direction,
        closeness=float((distances / bonds).min(initial=np.inf)),
        shortest=float(distances.min(initial=np.inf)),
        asymmetry=np.linalg.norm(resultant, axis=1),
        ideal=bool(atoms.pbc.all())
        and all(np.ptp(ranked[kind == k], axis=0).max() < 0.01 for k in range(len(species))),
        fingerprint=np.concatenate(fingerprint),
    )


def all_distances(atoms: Atoms) -> np.ndarray:
    """(N, S, K) what the fingerprint is, of all neighbours within ``REACH``, K at most: rows by element of the atom."""
    (centre, other), vectors, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, REACH)
    distances = np.sqrt(np.einsum("ex,ex->e", vectors, vectors))
    species, kind = np.unique(atoms.numbers, return_inverse=True)
    ranked = _ranked(centre, kind[other], distances, (len(atoms), len(species)))
    return np.concatenate([np.sort(ranked[kind == k], axis=0) for k in range(len(species))])


def _ranked(
    centre: np.ndarray, kind: np.ndarray, distances: np.ndarray, shape: tuple[int, int], ranks: int | None = None
) -> np.ndarray:
    """(N, S, ranks) distances by atom and element of the neighbour, ascending, ``REACH`` where there are no more."""
    environment = centre * shape[1] + kind
    order = np.lexsort((distances, environment))
    environment, distances = environment[order], distances[order]
    rank = np.arange(len(order)) - np.searchsorted(environment, np.arange(shape[0] * shape[1]))[environment]
    if ranks is None:
        ranks = int(rank.max(initial=-1)) + 1
    ranked = np.full((shape[0] * shape[1], ranks), REACH)
    near = rank < ranks
    ranked[environment[near], rank[near]] = distances[near]
    return ranked.reshape(*shape, ranks)
