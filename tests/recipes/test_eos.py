"""Equations of state."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from ase_equivariant.recipes.eos import equation_of_state


def test_copper_with_effective_medium_theory():
    """EMT was made for a = 3.61 Å (as its parameters, s0 = 2.67 Bohr, have it) and 134 GPa."""
    for a in (3.55, 3.7):
        atoms = bulk("Cu", a=a)
        atoms.calc = EMT()
        before = atoms.cell.array.copy()
        result = equation_of_state(atoms)
        assert a * (1 + result.linear_strain) == pytest.approx(3.59, abs=0.03)
        assert result.bulk_modulus_GPa == pytest.approx(134, abs=10)
        np.testing.assert_array_equal(atoms.cell.array, before)
        assert len(result.volumes) == 9


def test_what_has_none_is_refused():
    with pytest.raises(ValueError, match="needs a crystal"):
        equation_of_state(molecule("H2O"))
    atoms = bulk("Cu", a=4.5)
    atoms.calc = EMT()
    with pytest.raises(ValueError, match="lowest energy is at the smallest volume"):
        equation_of_state(atoms, strain=0.02)
    with pytest.raises(ValueError, match="at least 5 points"):
        equation_of_state(atoms, points=3)
