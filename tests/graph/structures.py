"""Hypothesis strategies of structures that neighbor lists get wrong: skewed, tiny, flat, partly periodic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

CUTOFF = 3.0


@dataclass
class Structure:
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray


@st.composite
def structures(draw, max_atoms=6):
    """Cells of volume 0 (where not periodic) to 5³ Å³, atoms inside, outside, on a plane, on a line, at one point.

    The kinds are drawn by hypothesis, the numbers by a seeded generator: bits of shrunk floats are no physics.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = np.array(draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
    cell = _CELLS[draw(st.sampled_from(sorted(_CELLS)))](rng)
    num_atoms = draw(st.integers(1, max_atoms))
    if draw(st.booleans()):
        cell[~pbc] = 0.0
    spread = draw(st.sampled_from([0.0, 1.0, 1.0, 3.0]))
    frame = cell if cell.any() else 3.0 * np.eye(3)
    positions = spread * (rng.random((num_atoms, 3)) - 0.3) @ frame
    shape = draw(st.sampled_from(["free", "free", "flat", "line", "lattice sites"]))
    if shape == "flat":
        positions[:, 2] = 0.5
    elif shape == "line":
        positions[:, 1:] = -0.25
    elif shape == "lattice sites":
        positions = np.round(positions)
    return Structure(positions, cell, pbc)


def _skewed(rng):
    """Unreduced vectors of a compact lattice: what a long shear run makes of a cubic cell."""
    integers = np.array([[1, 0, 0], [rng.integers(-4, 5), 1, 0], [rng.integers(-4, 5), rng.integers(-4, 5), 1]])
    return integers @ (np.eye(3) * rng.uniform(2.0, 4.0) + 0.2 * rng.normal(size=(3, 3)))


def _tiny(rng):
    """One or more edges far shorter than the cutoff."""
    lengths = rng.permutation([rng.uniform(0.3, 1.0), rng.uniform(1.0, 4.0), rng.uniform(1.0, 4.0)])
    return np.diag(lengths) @ (np.eye(3) + 0.2 * rng.uniform(-1, 1, (3, 3)))


def _left_handed(rng):
    return np.diag(rng.uniform(2.0, 5.0, 3)) @ np.array([[0.0, 1.0, 0.1], [1.0, 0.0, 0.0], [0.0, -0.2, 1.0]])


def _roomy(rng):
    """Vectors longer than twice the cutoff: several bins."""
    return np.diag(rng.uniform(5.0, 14.0, 3)) @ (np.eye(3) + 0.3 * rng.uniform(-1, 1, (3, 3)))


def _integer(rng):
    """With atoms on lattice sites, many pairs exactly at the cutoff."""
    return np.diag(rng.integers(1, 6, 3).astype(float)) + np.triu(rng.integers(-1, 2, (3, 3)), 1)


_CELLS = {"skewed": _skewed, "tiny": _tiny, "left-handed": _left_handed, "roomy": _roomy, "integer": _integer}
