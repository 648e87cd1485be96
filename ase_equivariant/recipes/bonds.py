"""Which atoms are bonded, and which atoms turn about a bond."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list


def bonds_of(atoms: Atoms, tolerance: float = 1.2) -> np.ndarray:
    """(bonds, 2) pairs i < j nearer than ``tolerance`` times the sum of their covalent radii, images left out."""
    i, j, shift = neighbor_list("ijS", atoms, natural_cutoffs(atoms, mult=tolerance))
    own = (i < j) & ~shift.any(axis=1)
    return np.stack([i[own], j[own]], axis=1)


def beyond_bond(atoms: Atoms, inner: int, outer: int) -> list[int]:
    """Atoms on ``outer``'s side of the bond inner–outer, ``outer`` included.

    Raises
    ------
    ValueError
        If the bond is in a ring, so that it has no sides.
    """
    neighbours: dict[int, set[int]] = {k: set() for k in range(len(atoms))}
    for i, j in bonds_of(atoms).tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    neighbours[outer].discard(inner)
    reached, todo = {outer}, [outer]
    while todo:
        for k in neighbours[todo.pop()] - reached:
            reached.add(k)
            todo.append(k)
    if inner in reached:
        raise ValueError(f"the bond of atoms {inner} and {outer} is in a ring: its torsion cannot be turned alone")
    return sorted(reached)
