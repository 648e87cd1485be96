"""The neighbor list by its definition, sharing no code with the package: every image of every atom, in numpy."""

from __future__ import annotations

import itertools

import numpy as np


def brute_force(positions, cell, pbc, cutoff):
    """Set of (i, j, S1, S2, S3) with \\|r_j − r_i + S·cell\\| < cutoff, self-pairs at S = 0 left out."""
    ranges = [range(-n, n + 1) for n in _image_range(positions, cell, pbc, cutoff)]
    edges = set()
    for shift in itertools.product(*ranges):
        vectors = positions[None, :, :] - positions[:, None, :]
        vectors = vectors + (shift[0] * cell[0] + shift[1] * cell[1] + shift[2] * cell[2])
        close = vectors[..., 0] ** 2 + vectors[..., 1] ** 2 + vectors[..., 2] ** 2 < cutoff**2
        edges.update((int(i), int(j), *shift) for i, j in np.argwhere(close) if i != j or any(shift))
    return edges


def _image_range(positions, cell, pbc, cutoff):
    """A pair within the cutoff lies in planes at most cutoff apart: \\|s_j − s_i + S_k\\| ≤ cutoff / height_k."""
    count = np.zeros(3, dtype=int)
    periodic = np.flatnonzero(pbc)
    if len(periodic):
        inverse = np.linalg.pinv(cell[periodic])  # (3, p): fractional coordinates are positions @ inverse
        fractional = positions @ inverse
        extent = fractional.max(axis=0) - fractional.min(axis=0)
        count[periodic] = np.ceil(cutoff * np.linalg.norm(inverse, axis=0) + extent).astype(int)
    return count


def as_tuples(edge_index, shifts):
    """List (not set: doubled pairs must show) of (i, j, S1, S2, S3)."""
    return [(int(i), int(j), *(int(s) for s in shift)) for i, j, shift in zip(*edge_index, shifts, strict=True)]
