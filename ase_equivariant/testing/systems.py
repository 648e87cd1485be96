"""Small structures that potentials get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

_SKEWED_CELL = ((4.1, 0.2, 0.0), (4.6, 3.9, -0.3), (-4.4, 4.2, 3.7))  # a compact lattice in unreduced vectors
_TINY_CELL = ((1.6, 0.1, 0.0), (0.2, 1.5, -0.2), (-0.1, 0.3, 2.1))


def _molecule() -> Atoms:
    return _rattled(molecule("CH3CH2OH"), 0.05)


def _bulk() -> Atoms:
    return _rattled(bulk("Si", cubic=True), 0.1)


def _skewed() -> Atoms:
    fractions = [[0.05, 0.1, 0.0], [0.55, 0.4, 0.1], [0.1, 0.6, 0.45], [0.6, 0.05, 0.6]]
    return Atoms("OSiCO", scaled_positions=fractions, cell=_SKEWED_CELL, pbc=True)


def _slab() -> Atoms:
    slab = bulk("Si", cubic=True) * (1, 1, 1)
    slab.pbc = (True, True, False)
    slab.cell[2] = (0.0, 0.0, 20.0)
    return _rattled(slab, 0.1)


def _wire() -> Atoms:
    positions = [[0.0, 0.0, 0.0], [0.9, 0.5, 0.6], [-0.8, 0.7, -0.1], [0.3, -0.6, 1.3]]
    return Atoms("COHH", positions=positions, cell=[[0, 0, 0], [0, 0, 0], [0.3, -0.2, 2.4]], pbc=(False, False, True))


def _atom() -> Atoms:
    return Atoms("O", positions=[[0.3, -0.2, 0.1]])


def _edgeless() -> Atoms:
    return Atoms("CO", positions=[[0.0, 0.0, 0.0], [30.0, 20.0, 10.0]])


def _tiny() -> Atoms:
    return Atoms("HC", scaled_positions=[[0.0, 0.1, 0.0], [0.45, 0.5, 0.55]], cell=_TINY_CELL, pbc=True)


def _mixed() -> Atoms:
    sites = np.stack(np.meshgrid([0.0, 0.5], [0.0, 0.5], [0.0, 0.5], indexing="ij"), axis=-1).reshape(8, 3)
    cell = [[3.9, 0.0, 0.0], [0.3, 4.1, 0.0], [-0.2, 0.4, 4.3]]
    return _rattled(Atoms("HCOSiHOCH", scaled_positions=sites, cell=cell, pbc=True), 0.15)


def _rattled(atoms: Atoms, amplitude: float) -> Atoms:
    """Off every symmetry: forces that vanish by symmetry would check nothing."""
    atoms.positions += amplitude * np.random.default_rng(0).uniform(-1, 1, atoms.positions.shape)
    return atoms


TEST_SYSTEMS: Mapping[str, Callable[[], Atoms]] = MappingProxyType(
    {
        "molecule": _molecule,
        "bulk": _bulk,
        "skewed": _skewed,
        "slab": _slab,
        "wire": _wire,
        "atom": _atom,
        "edgeless": _edgeless,
        "tiny": _tiny,
        "mixed": _mixed,
    }
)
"""Factories of small structures that potentials get wrong, of H, C, O and Si and off every symmetry.

``molecule`` without a cell; ``bulk`` crystal; ``skewed`` unreduced cell; ``slab`` periodic in two directions with a
three-dimensional cell; ``wire`` periodic in one direction, the other cell vectors zero; a single ``atom``; an
``edgeless`` pair far apart; ``tiny`` cell whose atoms see their own images; ``mixed`` elements.
"""
