"""Golden structures are the same everywhere and hold every kind of interaction."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from ase_equivariant.io import golden as golden_module
from ase_equivariant.io.golden import GoldenMismatchError, check_golden, golden_structure, make_golden


def test_structure_is_fixed():
    atoms = golden_structure(("H", "C", "O", "Si"))
    assert str(atoms.symbols) == "HCOSiHCOSiHCOSi"
    assert atoms.pbc.all()
    np.testing.assert_array_equal(atoms.positions, golden_structure(("H", "C", "O", "Si")).positions)
    distances = atoms.get_all_distances(mic=True)[np.triu_indices(12, 1)]
    assert distances.min() > 1.2
    assert str(golden_structure(("Si",)).symbols) == "Si12"


def test_many_species_use_the_first():
    species = ("H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si")
    assert tuple(golden_structure(species).symbols) == species[:12]


def test_golden_values_hold_and_small_changes_show(small_potential):
    golden = make_golden(small_potential)
    check_golden(small_potential, golden)
    changed = deepcopy(small_potential)
    with torch.no_grad():
        changed.readout.mlp.weights[0].mul_(1 + 1e-5)
    with pytest.raises(GoldenMismatchError, match="damaged, or a library computes wrongly"):
        check_golden(changed, golden)


def test_float32_is_refused(small_potential):
    with pytest.raises(ValueError, match=r"made in float64, the potential is torch\.float32: use potential\.double"):
        make_golden(deepcopy(small_potential).float())


def test_a_first_evaluation_that_is_off_is_asked_again(small_potential, monkeypatch):
    """As two threads that share the first sine of a process may give it, of 9 digits; twice off is refused."""
    golden, ask, calls = make_golden(small_potential), golden_module._ask, []

    def off_at_first(potential, atoms):
        energy, forces, stress = ask(potential, atoms)
        calls.append(energy)
        return energy, forces + (0.06 if len(calls) == 1 else 0.0), stress

    monkeypatch.setattr(golden_module, "_ask", off_at_first)
    check_golden(small_potential, golden)
    assert len(calls) == 2
