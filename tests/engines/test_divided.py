"""A divided potential on one process: which code evaluates it, and when it looks at the structure anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk
from engines.one_process import OneProcess, images

from ase_equivariant.engines.divided import DividedPotential
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.fast_path import FastPath

COMPILED = native.best_level() >= 0


def crystal():
    atoms = bulk("SiC", "zincblende", a=4.4, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def call(divided, atoms):
    positions, owners = images(atoms, 4.2)
    return divided(positions, owners + 1, atoms.numbers[owners], len(atoms))


def expected(potential, atoms):
    return potential(atoms_to_graph(atoms, potential.cutoff), stress=True)


@pytest.mark.parametrize("fast", [None, False])
def test_it_is_the_potential(fast, small_potential):
    divided = DividedPotential(small_potential, torch.float64, OneProcess(), 0.5, fast)
    atoms = crystal()
    found, whole = call(divided, atoms), expected(small_potential, atoms)
    assert divided.statistics.compiled == (COMPILED and fast is None)
    atol = 1e-6 if divided.statistics.compiled else 1e-12
    np.testing.assert_allclose(found.forces, whole["forces"], rtol=0, atol=atol)
    np.testing.assert_allclose(found.energies, whole["node_energies"], rtol=0, atol=atol)
    np.testing.assert_allclose(found.virials.sum(axis=0), found.virial, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.virial[5], whole["virial"][0, 1, 2], rtol=0, atol=atol)


def test_elements_that_change_at_their_places_are_seen(small_potential):
    divided = DividedPotential(small_potential, torch.float64, OneProcess(), 0.5)
    atoms = crystal()
    call(divided, atoms)
    call(divided, atoms)
    assert divided.statistics.builds == 1
    atoms.symbols[0] = "O"
    found = call(divided, atoms)
    assert divided.statistics.builds == 2
    np.testing.assert_allclose(found.forces, expected(small_potential, atoms)["forces"], rtol=0, atol=1e-6)


@pytest.mark.skipif(not COMPILED, reason="no compiled kernels: there is no C++ compiler")
def test_an_objection_to_compiled_code_ends_its_use(small_potential, monkeypatch):
    divided = DividedPotential(small_potential, torch.float64, OneProcess(), 0.5)
    monkeypatch.setattr(FastPath, "for_graph", lambda self, graph: None)
    atoms = crystal()
    found = call(divided, atoms)
    assert not divided.statistics.compiled
    np.testing.assert_allclose(found.forces, expected(small_potential, atoms)["forces"], rtol=0, atol=1e-12)
    monkeypatch.undo()
    atoms.positions += 0.3 * np.eye(3)[0]
    call(divided, atoms)
    assert divided.statistics.builds == 2
    assert not divided.statistics.compiled


def test_compiled_code_is_demanded_in_vain(small_potential, monkeypatch):
    monkeypatch.setattr(native, "best_level", lambda: -1)
    with pytest.raises(ValueError, match="fast=True is not possible"):
        DividedPotential(small_potential, torch.float64, OneProcess(), 0.5, True)
