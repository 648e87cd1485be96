"""Frames that are turned."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress
from emt_data import emt_frames

from ase_equivariant.irreps import random_rotation
from ase_equivariant.training.frames import Frame, Label


def test_labels_turn_with_the_atoms(check):
    frame = emt_frames(1)[0]
    turned = frame.rotated(random_rotation().numpy())
    atoms = turned.atoms.copy()
    atoms.calc = EMT()
    check("energy", abs(atoms.get_potential_energy() - turned.energy), 1e-10)
    check("forces", np.abs(atoms.get_forces() - turned.forces).max(), 1e-10)
    check("stress", np.abs(voigt_6_to_full_3x3_stress(atoms.get_stress()) - turned.stress).max(), 1e-10)
    assert np.abs(turned.forces - frame.forces).max() > 1e-3


def test_readouts_turn_with_the_atoms(check):
    """Charges, and what these give: dipole, a tensor of second moments, and of each atom its own."""
    rng = np.random.default_rng(1)
    atoms, charges = molecule("H2O"), rng.normal(size=3)

    def labels(r):
        return {
            "charges": Label(charges, per_atom=True),
            "dipole": Label(charges @ r, per_atom=False),
            "polarizability": Label(np.einsum("i,ia,ib->ab", charges, r, r), per_atom=False),
            "born_effective_charges": Label(np.einsum("i,ia,ib->iab", charges, r, r[::-1]), per_atom=True),
        }

    turned = Frame(atoms, readouts=labels(atoms.positions)).rotated(random_rotation().numpy())
    for name, label in labels(turned.atoms.positions).items():
        check(name, np.abs(label.values - turned.readouts[name].values).max(), 1e-13)
        assert label.per_atom == turned.readouts[name].per_atom


def test_labels_of_unknown_kind_are_refused():
    frame = Frame(molecule("H2O"), readouts={"spin": Label(np.zeros(3), per_atom=False)})
    with pytest.raises(ValueError, match="labels 'spin' cannot be turned"):
        frame.rotated(np.eye(3))
