"""Dipoles of ions are about the centre of the masses that the atoms have."""

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_equivariant import EquivariantCalculator
from ase_equivariant.architectures import NequIPConfig
from ase_equivariant.engines.batch import BatchEvaluator
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential.potential import Potential, PotentialConfig
from ase_equivariant.recipes.dynamic_spectra import moments


def calculator(**options):
    return EquivariantCalculator(potential(), **options)


def potential():
    torch.manual_seed(0)
    network = NequIPConfig(species=("H", "O"), cutoff=4.0, l_max=1, irreps_hidden="4x0e+4x1o", num_layers=2)
    readout = {"kind": "dipole", "charges": True}
    return Potential(PotentialConfig(architecture=network, readouts=(readout,)))


def hydronium(charge):
    positions = [[0, 0, 0.1], [0.9, 0, -0.2], [-0.45, 0.78, -0.2], [-0.45, -0.78, -0.2]]
    return Atoms("OH3", positions=positions, info={"charge": charge})


def test_a_heavy_atom_moves_the_dipole_of_an_ion_by_the_charge_times_the_centre(check):
    for charge in (0, 1):
        light, heavy = hydronium(charge), hydronium(charge)
        heavy.set_masses([15.999, 2.014, 1.008, 1.008])
        dipoles = [calculator().get_property("dipole", atoms) for atoms in (light, heavy)]
        moved = charge * (light.get_center_of_mass() - heavy.get_center_of_mass())
        check("dipole of an isotope", float(np.abs(dipoles[1] - dipoles[0] - moved).max()), 1e-12)
        along, _ = moments([light, heavy], calculator())
        check("dipoles along a trajectory", float(np.abs(along - dipoles).max()), 1e-12)


def test_masses_of_an_ion_are_a_change():
    calc = calculator()
    for charge in (0, 1):
        atoms = hydronium(charge)
        before = calc.get_property("dipole", atoms)
        atoms.set_masses([15.999, 2.014, 1.008, 1.008])
        assert calc.check_state(atoms) == ["masses"] * charge
        np.testing.assert_array_equal(calc.get_property("dipole", atoms), calculator().get_property("dipole", atoms))
        assert np.array_equal(calc.get_property("dipole", atoms), before) == (not charge)


def test_a_bad_charge_does_not_stay():
    calc, bad = calculator(), hydronium("one")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"atoms.info\[\"charge\"\] = 'one' is not a charge"):
            calc.get_potential_energy(bad)
        assert calc.get_property("dipole", hydronium(1)) == pytest.approx(
            calculator().get_property("dipole", hydronium(1)), abs=1e-12
        )


@pytest.mark.parametrize("fast", [False, None])
def test_a_batch_has_the_calculators_dipoles_if_they_are_asked_for(fast, check):
    evaluate = BatchEvaluator(potential(), fast=fast)
    light, heavy = hydronium(1), hydronium(1)
    heavy.set_masses([15.999, 2.014, 1.008, 1.008])
    assert set(evaluate([light, heavy])) == {"energy", "node_energies", "forces", "virial", "node_virials"}
    found = evaluate([light, heavy], properties=["dipole"])
    assert "born_effective_charges" not in found
    expected = [calculator().get_property("dipole", atoms) for atoms in (light, heavy)]
    check("dipoles of a batch", float(np.abs(found["dipole"].numpy() - expected).max()), 1e-10)
    with pytest.raises(ValueError, match="predicts no 'charges' beside energy, forces and stress; there is born_eff"):
        evaluate([light], properties=["charges"])


def test_far_from_the_origin_float32_keeps_the_dipole(check):
    calc, near, far = calculator(dtype="float32"), hydronium(0), hydronium(0)
    far.positions += 1e5
    graph = atoms_to_graph(far, 4.0).to("cpu", torch.float32)
    assert graph.positions.dtype == torch.float64
    found = [calc.get_property("dipole", atoms) for atoms in (near, far)]
    check("float32: dipole far away", float(np.abs(found[1] - found[0]).max()), 1e-5)
