"""Reference energies and scales."""

import numpy as np
import pytest
from ase import Atoms

from ase_equivariant.training.data_config import DataConfig
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.references import (
    energy_scales,
    isolated_energies,
    least_squares_energies,
    reference_energies,
    species_of,
)

TRUE = {"H": -13.6, "O": -2041.3}


def frame(formula, noise=0.0, forces=None):
    atoms = Atoms(formula)
    return Frame(atoms, sum(TRUE[s] for s in atoms.get_chemical_symbols()) + noise, forces)


def config(**options):
    return DataConfig(train="unused", **options)


def test_species_by_atomic_number():
    assert species_of([frame("OH"), frame("H2")]) == ("H", "O")


def test_least_squares_recovers_atomic_energies():
    frames = [frame("H2"), frame("H2O"), frame("O2"), frame("HO2")]
    np.testing.assert_allclose(least_squares_energies(("H", "O"), frames), [TRUE["H"], TRUE["O"]], rtol=1e-12)


def test_least_squares_weighs_by_size():
    """The normal equations hold for errors per atom."""
    rng = np.random.default_rng(0)
    frames = [
        frame(formula, noise) for formula, noise in zip(("H2", "H2O", "O2", "H9O4"), rng.normal(size=4), strict=True)
    ]
    solution = least_squares_energies(("H", "O"), frames)
    counts = np.array([[2, 0], [2, 1], [0, 2], [9, 4]])
    atoms = counts.sum(1)
    residual = (counts @ solution - [f.energy for f in frames]) / atoms
    np.testing.assert_allclose((counts / atoms[:, None]).T @ residual, 0, atol=1e-9)


def test_one_molecule_gets_the_mean_energy_and_the_smallest_norm():
    frames = [frame("H2O", noise) for noise in (-0.1, 0.3)]
    solution = least_squares_energies(("H", "O"), frames)
    assert 2 * solution[0] + solution[1] == pytest.approx(np.mean([f.energy for f in frames]), rel=1e-12)
    np.testing.assert_allclose(solution[0] / solution[1], 2.0, rtol=1e-9)  # along (2, 1): no smaller solution


def test_a_species_without_energies_in_training_starts_at_zero():
    assert least_squares_energies(("H", "O"), [frame("H2")])[1] == pytest.approx(0, abs=1e-9)


def test_given_and_isolated_energies():
    species = ("H", "O")
    lone = [frame("H"), frame("O")]
    isolated = reference_energies(config(references="isolated_atoms"), species, [], lone)
    np.testing.assert_allclose(isolated, [TRUE["H"], TRUE["O"]])
    np.testing.assert_allclose(reference_energies(config(references=TRUE), species, []), [TRUE["H"], TRUE["O"]])
    np.testing.assert_array_equal(reference_energies(config(references="none"), species, []), [0, 0])
    with pytest.raises(DataError, match="O: no lone, neutral atom"):
        reference_energies(config(references="isolated_atoms"), species, [], lone[:1])
    with pytest.raises(DataError, match=r"O: no value in data\.references"):
        reference_energies(config(references={"H": 1.0}), species, [])
    with pytest.raises(DataError, match="no training structure has an energy"):
        reference_energies(config(), species, [Frame(Atoms("H2"))])


def test_a_crystal_of_one_atom_is_not_isolated_and_two_energies_are_refused():
    def copper(energy, edge):
        return Frame(Atoms("Cu", cell=[edge] * 3, pbc=edge > 0), energy)

    assert isolated_energies([copper(-0.2, 0), copper(-3.9, 2.55)]) == {"Cu": -0.2}
    assert isolated_energies([copper(-3.9, 2.55), copper(-0.2, 12.0)]) == {"Cu": -0.2}
    with pytest.raises(DataError, match=r"lone atoms of Cu have -0\.2 and -0\.3 eV"):
        isolated_energies([copper(-0.2, 0), copper(-0.3, 12.0)])


def test_an_ion_is_no_reference():
    ion, atom = Frame(Atoms("Cu", info={"charge": 1}), 7.7), Frame(Atoms("Cu"), -0.2)
    assert isolated_energies([ion]) == {}
    assert isolated_energies([ion, atom]) == {"Cu": -0.2}


@pytest.mark.parametrize("size", [0.0, 1e-14, 1e-9])
def test_forces_of_perfect_crystals_give_no_scale(size):
    frames = [frame("O2", noise, np.full((2, 3), size)) for noise in (-0.2, 0.2)]
    for scale in ("forces_rms", "forces_rms_per_species"):
        np.testing.assert_allclose(energy_scales(config(scale=scale), ("O",), frames), 0.1)  # eV/atom beside the mean


def test_scales_are_root_mean_square_forces():
    forces = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 0]])
    frames = [frame("H2O", forces=forces), frame("O2")]
    overall = np.sqrt(25 / 9)
    np.testing.assert_allclose(energy_scales(config(), ("H", "O"), frames), overall)
    own = energy_scales(config(scale="forces_rms_per_species"), ("H", "O"), frames)
    np.testing.assert_allclose(own, [np.sqrt(25 / 6), overall])  # oxygen feels no force: the overall scale
    np.testing.assert_array_equal(energy_scales(config(scale="none"), ("H", "O"), frames), [1, 1])
    np.testing.assert_array_equal(energy_scales(config(scale=0.5), ("H", "O"), frames), [0.5, 0.5])
    np.testing.assert_array_equal(energy_scales(config(), ("H", "O"), [frame("O2")]), [1, 1])
