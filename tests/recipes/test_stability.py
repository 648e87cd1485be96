"""Stability: molecules that hold, break, and break at a known time."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, CalculatorError, all_changes
from ase.calculators.emt import EMT

from ase_equivariant import EquivariantCalculator
from ase_equivariant.recipes.ensembles import MDSettings
from ase_equivariant.recipes.relax import relax
from ase_equivariant.recipes.stability import bond_deviation, first_failure, stability

COLD = MDSettings(ensemble="nve", temperature_K=10.0, timestep_fs=0.5)


class Repelling(Calculator):
    """A constant force of 2 eV/Å drives two atoms apart."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        axis = self.atoms.positions[1] - self.atoms.positions[0]
        length = np.linalg.norm(axis)
        if length > 20:
            raise CalculatorError("they left each other")
        forces = 2.0 * np.array([-axis, axis]) / length
        self.results = {"energy": -2.0 * length, "forces": forces}


def test_a_bound_molecule_holds():
    atoms = molecule("N2")
    atoms.calc = EMT()
    relax(atoms, fmax=1e-3)
    found = stability(atoms, runs=2, length_ps=0.1, settings=COLD)
    assert not found.failed.any()
    np.testing.assert_allclose(found.survived_ps, 0.1)
    assert found.mean_time_to_failure_ps == np.inf
    assert (found.largest_deviation_A < 0.2).all()
    assert found.bonds.tolist() == [[0, 1]]


def test_a_survivor_is_none_whatever_the_time_step():
    """3333 steps of 0.3 fs and 1 ps divided otherwise differ in the last digit."""
    atoms = molecule("N2")
    atoms.calc = EMT()
    relax(atoms, fmax=1e-3)
    for timestep, length in ((0.3, 0.03), (0.3, 0.06), (0.3, 0.09), (0.7, 0.07), (1.0, 0.03)):
        found = stability(atoms, runs=1, length_ps=length, settings=COLD.model_copy(update={"timestep_fs": timestep}))
        assert not found.failed.any()


def test_a_broken_one_fails_when_mechanics_says():
    """Two nitrogen atoms under F = 2 eV/Å part by F t² / m; 0.5 Å at t = √(0.5 m / F)."""
    atoms = molecule("N2")
    atoms.calc = Repelling()
    still = COLD.model_copy(update={"temperature_K": 0.0})
    found = stability(atoms, runs=3, length_ps=0.1, settings=still, check_every=1)
    expected = np.sqrt(0.5 * atoms.get_masses()[0] / 2.0) * 10.1805 / 1000  # ps; ASE's time unit is 10.18 fs
    np.testing.assert_allclose(found.survived_ps, expected, atol=0.0006)
    assert found.failed.all()
    assert found.mean_time_to_failure_ps == pytest.approx(expected, abs=0.0006)
    assert (found.largest_deviation_A > 0.5).all()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_molecule_that_the_model_does_not_take_is_refused(processes):
    """It would look as if its bonds broke at once."""
    atoms = molecule("CH3SH")
    atoms.calc = EquivariantCalculator("ethanol")
    with pytest.raises(ValueError, match="does not know S"):
        stability(atoms, runs=2, length_ps=0.1, processes=processes)


def test_runs_in_processes_are_the_same():
    atoms = molecule("CH3CH2OH")
    atoms.calc = EquivariantCalculator("ethanol", preset="md")
    hot, told = MDSettings(temperature_K=5000.0), []
    alone, together = (
        stability(atoms, runs=3, length_ps=0.1, settings=hot, processes=n, progress=lambda *args: told.append(args))
        for n in (1, 2)
    )
    for name in ("survived_ps", "largest_deviation_A", "failed"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))
    assert alone.failed.any()
    assert told == list(enumerate(together.survived_ps))


def test_a_calculator_that_gives_up_is_a_failure():
    atoms = molecule("N2")
    atoms.calc = Repelling()
    found = stability(atoms, runs=1, length_ps=1.0, settings=COLD, tolerance_A=100.0)
    assert found.failed.all()
    assert found.largest_deviation_A[0] == np.inf


def test_frames_of_a_trajectory():
    reference = Atoms("H2", [[0, 0, 0], [0.74, 0, 0]])
    frames = [Atoms("H2", [[0, 0, 0], [0.74 + x, 0, 0]]) for x in (0.0, 0.49, 0.51, 0.1)]
    assert first_failure(frames, reference) == 2
    assert first_failure(frames[:2], reference) is None
    assert bond_deviation(np.full((2, 3), np.nan), np.array([[0, 1]]), np.array([0.7])) == np.inf


def test_what_has_no_bonds_is_refused():
    lone = Atoms("Ar", calculator=EMT())
    with pytest.raises(ValueError, match="no bond in Ar"):
        stability(lone)
    periodic = molecule("N2", vacuum=3.0, pbc=True)
    periodic.calc = EMT()
    with pytest.raises(ValueError, match="without periodic boundaries"):
        stability(periodic)
    with pytest.raises(ValueError, match="no calculator"):
        stability(molecule("N2"))
