"""Frames that are turned."""

import numpy as np
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress
from emt_data import emt_frames

from ase_equivariant.irreps import random_rotation


def test_labels_turn_with_the_atoms(check):
    frame = emt_frames(1)[0]
    turned = frame.rotated(random_rotation().numpy())
    atoms = turned.atoms.copy()
    atoms.calc = EMT()
    check("energy", abs(atoms.get_potential_energy() - turned.energy), 1e-10)
    check("forces", np.abs(atoms.get_forces() - turned.forces).max(), 1e-10)
    check("stress", np.abs(voigt_6_to_full_3x3_stress(atoms.get_stress()) - turned.stress).max(), 1e-10)
    assert np.abs(turned.forces - frame.forces).max() > 1e-3
