"""Energy and forces go to zero as an atom leaves the cutoff."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from cases import CUTOFF, EVALUATED, WITH_XPLOR, ask, potential, relative, system

every_case = pytest.mark.parametrize("case", EVALUATED)


def pair_at(distance):
    direction = np.array([0.48, -0.6, 0.64])
    return Atoms("CO", positions=[[0.0, 0.0, 0.0], distance * direction])


@every_case
def test_force_of_a_pair_vanishes(case):
    """With distance δ to the cutoff as δ² (polynomial) or δ (XPLOR), like the cutoff's derivative, or faster."""
    order = 1 if case in WITH_XPLOR else 2
    gaps = (1e-2, 1e-3, 1e-4)
    near = [float(ask(potential(case), pair_at(CUTOFF - gap))["forces"].norm(dim=1).max()) for gap in gaps]
    assert near[0] > 0
    for larger, smaller in itertools.pairwise(near):
        assert smaller / larger < 3 * 0.1**order


@every_case
def test_energy_of_a_pair_becomes_that_of_two_atoms(case, check):
    alone = ask(potential(case), pair_at(CUTOFF + 1e-9))
    assert alone["forces"].eq(0).all()
    crossing = ask(potential(case), pair_at(CUTOFF - 1e-6))
    check("energy is continuous at the cutoff", relative(crossing["energy"], alone["energy"]), 1e-10)


@every_case
def test_crossing_among_other_atoms(case, check):
    """An atom leaves the cutoff of one atom of a molecule while it stays in that of others."""
    inside, outside = (ask(potential(case), _crossing(CUTOFF + gap)) for gap in (-1e-6, 1e-6))
    slope = float(inside["forces"].abs().max())
    # Moving by 2e-6 Å changes the energy by no more than force · distance.
    change = (inside["node_energies"] - outside["node_energies"]).abs().max()
    check("energy crossing among others (per force · distance)", float(change) / (slope * 2e-6), 10.0)
    check("forces crossing among others", relative(inside["forces"], outside["forces"]), 1e-4)


def _crossing(distance):
    atoms = system("molecule")
    i = int(np.argmin(atoms.positions[:, 0]))
    away = np.array([-0.8, 0.0, 0.6])
    others = atoms[[k for k in range(len(atoms)) if k != i]]
    return others + Atoms("H", positions=[others.positions[0] + distance * away])


def test_gap_is_seen():
    """A cutoff without a smooth function would be found: the pair below interacts well inside the cutoff."""
    inside = ask(potential("l=2"), pair_at(0.7 * CUTOFF))
    assert inside["forces"].norm(dim=1).max() > 1e-4
    assert torch.isfinite(inside["forces"]).all()
