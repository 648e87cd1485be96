"""Golden structures are the same everywhere and hold every kind of interaction."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

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
