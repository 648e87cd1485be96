"""Intensities of diatomic molecules, for which formulae are in textbooks; spectra of motion that is known."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLengths
from ase.md.velocitydistribution import thermalize_momenta

from ase_equivariant import EquivariantCalculator
from ase_equivariant.potential.repulsion import COULOMB
from ase_equivariant.recipes.dynamic_spectra import dynamic_spectrum, slope_density, vibrational_temperature_K
from ase_equivariant.recipes.normal_modes import normal_modes, rigid_motions
from ase_equivariant.recipes.relax import relax
from ase_equivariant.recipes.spectra import (
    KM_PER_MOL,
    harmonic_spectrum,
    ir_intensities,
    raman_activities,
)
from ase_equivariant.recipes.vibrations import PER_CM_PER_THZ

SPRING, CHARGE = 60.0, 0.4  # eV/Å², dμ/dr in e
AXIS = np.array([2.0, -1.0, 2.0]) / 3


class Spring:
    """Forces of a relaxed molecule, for what only asks whether it is one."""

    def get_forces(self, atoms=None):
        return np.zeros((len(atoms), 3))


def diatomic(spring=SPRING):
    atoms = Atoms("HF", positions=[[0.3, 0.2, 0.1], 0.92 * AXIS + [0.3, 0.2, 0.1]])
    atoms.calc = Spring()
    block = spring * np.outer(AXIS, AXIS)
    return atoms, np.block([[block, -block], [-block, block]])


def reduced_mass(atoms):
    first, second = atoms.get_masses()
    return first * second / (first + second)


def test_frequency_of_a_diatomic():
    atoms, hessian = diatomic()
    modes = normal_modes(atoms, hessian)
    # 1302.79 is √(N/m per mdyn/Å·amu) in 1/cm, as force constants are given in textbooks (mdyn/Å is 6.2415 eV/Å²).
    expected = 1302.79 * np.sqrt(SPRING / 6.241509 / reduced_mass(atoms))
    np.testing.assert_allclose(modes.frequencies_per_cm, [expected], rtol=1e-5)
    assert modes.zero_point_eV == pytest.approx(expected * 1.239842e-4 / 2, rel=1e-5)
    assert normal_modes(*diatomic(-SPRING)).frequencies_per_cm == pytest.approx([-expected], rel=1e-5)


def test_ir_intensity_of_a_diatomic():
    """42.2561 km/mol for 1 (D/Å)²/amu, as programs of quantum chemistry have it."""
    atoms, hessian = diatomic()
    born = CHARGE * np.stack([-np.outer(AXIS, AXIS), np.outer(AXIS, AXIS)])
    found = ir_intensities(normal_modes(atoms, hessian), born)
    np.testing.assert_allclose(found, 42.2561 * (CHARGE * 4.80320) ** 2 / reduced_mass(atoms), rtol=1e-5)
    assert pytest.approx(974.86, rel=1e-4) == KM_PER_MOL


def test_raman_activity_of_a_diatomic():
    """dα/dr of 1.3 Å² along the axis and 0.2 Å² across it."""
    atoms, hessian = diatomic()
    along, across = 1.3, 0.2
    slope = (along * np.outer(AXIS, AXIS) + across * (np.eye(3) - np.outer(AXIS, AXIS))) / COULOMB
    derivatives = np.stack([-slope[:, :, None] * AXIS, slope[:, :, None] * AXIS], axis=2)
    activity, ratio = raman_activities(normal_modes(atoms, hessian), derivatives)
    mean, anisotropy = (along + 2 * across) / 3, along - across
    np.testing.assert_allclose(activity, (45 * mean**2 + 7 * anisotropy**2) / reduced_mass(atoms), rtol=1e-10)
    np.testing.assert_allclose(ratio, 3 * anisotropy**2 / (45 * mean**2 + 4 * anisotropy**2), rtol=1e-10)
    _, of_a_vector = raman_activities(normal_modes(atoms, hessian), 0 * derivatives)
    assert np.isnan(of_a_vector).all()


@pytest.mark.parametrize(("name", "rigid"), [("H2O", 6), ("CO2", 5), ("C2H2", 5), ("CH4", 6)])
def test_rigid_motions(name, rigid):
    atoms = molecule(name)
    atoms.rotate(33, (1, 2, 3))
    found = rigid_motions(atoms.positions, atoms.get_masses())
    assert found.shape == (3 * len(atoms), rigid)
    np.testing.assert_allclose(found.T @ found, np.eye(rigid), atol=1e-12)
    atoms.rotate(1e-4, "y", center="COM")
    moved = np.sqrt(np.repeat(atoms.get_masses(), 3)) * (atoms.positions - molecule_like(atoms)).ravel()
    assert np.linalg.norm(moved - found @ (found.T @ moved)) < 1e-5 * np.linalg.norm(moved)


def zigzag(n):
    """A chain of n methylenes, long and thin."""
    backbone = np.array([[1.27 * k, 0.42 * (-1) ** k, 0.0] for k in range(n)])
    hydrogens = [backbone + backbone * [0, 1.5, 0] + [0, 0, side] for side in (-0.88, 0.88)]
    return Atoms(f"C{n}H{2 * n}", np.concatenate([backbone, *hydrogens]))


def shifted(name, atom, distance):
    atoms = molecule(name)
    atoms.positions[atom, 0] += distance  # these molecules are along z
    return atoms


@pytest.mark.parametrize(
    ("atoms", "rigid"),
    [
        (shifted("CO2", 0, 7e-4), 5),  # what relaxing to 0.01 eV/Å leaves
        (shifted("CO2", 0, 0.02), 5),
        (shifted("C2H2", 2, 0.02), 5),
        (shifted("CO2", 0, 0.1), 6),  # 170°
        (molecule("H2O2"), 6),
        (molecule("HOCl"), 6),
        (zigzag(20), 6),
        (zigzag(200), 6),
        # Only the hydrogen of its hydroxyl group is off the axis of this polyyne.
        (Atoms("C40OH2", [[1.3 * k, 0, 0] for k in range(41)] + [[52.3, 0.92, 0], [-1.06, 0, 0]]), 6),
    ],
    ids=lambda value: str(getattr(value, "symbols", value)),
)
def test_almost_linear_molecules_are_linear_and_long_ones_are_not(atoms, rigid):
    atoms.rotate(33, (1, 2, 3))
    found = rigid_motions(atoms.positions, atoms.get_masses())
    assert found.shape == (3 * len(atoms), rigid)
    np.testing.assert_allclose(found.T @ found, np.eye(rigid), atol=1e-10)


def test_bending_modes_of_an_almost_linear_molecule():
    """Both bends of carbon dioxide, of the same frequency, with its carbon off the axis."""
    along, across = 100.0, 5.0  # eV/Å², stretches and bends
    bonds = np.array([[-1.0, 1.0, 0.0], [1.0, 0.0, -1.0]])
    bend = np.array([-2.0, 1.0, 1.0])
    hessian = np.kron(along * bonds.T @ bonds, np.diag([0, 0, 1])) + np.kron(
        across * np.outer(bend, bend), np.diag([1, 1, 0])
    )
    frequencies = []
    for distance in (0.0, 7e-4):
        atoms = shifted("CO2", 0, distance)
        atoms.calc = Spring()
        frequencies.append(normal_modes(atoms, hessian).frequencies_per_cm)
    assert len(frequencies[0]) == 4
    np.testing.assert_allclose(frequencies[1], frequencies[0], rtol=1e-4)


def test_constraints_do_not_hide_forces():
    ethanol = molecule("CH3CH2OH")
    ethanol.calc = EquivariantCalculator("ethanol")
    ethanol.set_constraint(FixAtoms(range(9)))
    with pytest.raises(ValueError, match=r"relax the molecule first, to 0\.01 eV/Å or less, all atoms free"):
        normal_modes(ethanol)


def molecule_like(turned):
    """Where the atoms were before the small turn."""
    before = turned.copy()
    before.rotate(-1e-4, "y", center="COM")
    return before.positions


def test_area_of_a_band_is_the_squared_slope():
    slope, temperature, step, terahertz = 3.3, 250.0, 0.7, 63.0
    time = step * np.arange(30_000)
    angular = 2 * np.pi * terahertz / 1000
    amplitude = np.sqrt(2 * units.kB * temperature) / (angular / units.fs)  # ⟨Q̇²⟩ = k_B T
    signal = slope * amplitude * np.cos(angular * time + 0.3)
    density = slope_density(signal[:, None], step, temperature, 3000)[0]
    wave_numbers = np.linspace(0, 500 / step * PER_CM_PER_THZ, len(density))
    assert np.trapezoid(density, wave_numbers) == pytest.approx(slope**2, rel=2e-3)
    assert wave_numbers[density.argmax()] == pytest.approx(terahertz * PER_CM_PER_THZ, abs=2)


def moving(temperature=300.0, frames=4000, step=0.5):
    """A stretching, turning and drifting HF with momenta, of a known vibrational temperature."""
    atoms, _ = diatomic()
    mass, (first, second) = reduced_mass(atoms), atoms.get_masses()
    angular = np.sqrt(SPRING / mass)
    amplitude = np.sqrt(2 * units.kB * temperature / mass) / angular
    result = []
    for t in step * np.arange(frames):
        phase, turn = angular * t * units.fs, 0.01 * t
        axis = np.array([np.cos(turn), np.sin(turn), 0.0])
        across = np.array([-np.sin(turn), np.cos(turn), 0.0])
        length, speed = 0.92 + amplitude * np.cos(phase), -amplitude * angular * np.sin(phase)
        frame = Atoms("HF", positions=[-second * length * axis, first * length * axis] / (first + second))
        rate = speed * axis + 0.01 / units.fs * length * across
        frame.set_velocities(np.outer([-second, first], rate) / (first + second) + [0.02, 0.0, 0.0])
        frame.info["time_fs"] = t
        result.append(frame)
    return result


def test_temperature_is_that_of_vibrations():
    assert vibrational_temperature_K(moving(300.0)) == pytest.approx(300.0, rel=5e-3)
    resting = moving(frames=3)
    for frame in resting:
        frame.set_velocities(np.full((2, 3), 0.01))
    resting[1].set_velocities(resting[1].get_velocities() + 1e-6 * np.arange(6).reshape(2, 3))  # rounding, say
    with pytest.raises(ValueError, match="nothing vibrates"):
        vibrational_temperature_K(resting)


@pytest.mark.parametrize("held", [0, 1, 2, 3])
def test_atoms_that_are_held_have_no_part_in_the_temperature(held):
    """One leaves the molecule three turns, two leave it one, more leave none."""
    ethanol, rng = molecule("CH3CH2OH"), np.random.default_rng(held)
    ethanol.set_constraint([FixAtoms(range(held))] if held else [])
    frames = [ethanol.copy() for _ in range(1500)]
    for frame in frames:
        thermalize_momenta(frame, temperature_K=300.0, rng=rng)
    assert vibrational_temperature_K(frames) == pytest.approx(300.0, rel=0.02)


def test_other_constraints_are_refused():
    frames = moving(frames=3)
    frames[0].set_constraint(FixBondLengths([[0, 1]]))
    with pytest.raises(ValueError, match=r"constrained by FixBondLengths?, with which their temperature is not known"):
        vibrational_temperature_K(frames)


def test_a_hessian_has_the_shape_of_ase_or_a_matrix():
    atoms, hessian = diatomic()
    expected = normal_modes(atoms, hessian).frequencies_per_cm
    np.testing.assert_array_equal(normal_modes(atoms, hessian.reshape(2, 3, 2, 3)).frequencies_per_cm, expected)
    with pytest.raises(ValueError, match=r"hessian has shape \(3, 3\): \(6, 6\) or \(2, 3, 2, 3\) is that of 2 atoms"):
        normal_modes(atoms, hessian[:3, :3])
    with pytest.raises(ValueError, match="hessian has values that are not finite"):
        normal_modes(atoms, np.nan * hessian)
    for mass in (0.0, np.nan):
        atoms.set_masses([mass, 19.0])
        with pytest.raises(ValueError, match=rf"atom 0 \(H\) has a mass of {mass:g} amu: give one above 0"):
            normal_modes(atoms, hessian)


def test_nothing_has_no_derivatives():
    calc = EquivariantCalculator("water-tensors")
    for derive in (calc.get_hessian, calc.get_polarizability_derivatives):
        with pytest.raises(ValueError, match="the structure has no atoms"):
            derive(Atoms())


def test_what_has_no_spectrum_is_refused():
    atoms, hessian = diatomic()
    crystal = Atoms("HF", positions=atoms.positions, cell=[4, 4, 4], pbc=True)
    with pytest.raises(ValueError, match="HF is periodic"):
        normal_modes(crystal, hessian)
    with pytest.raises(ValueError, match="a single atom"):
        normal_modes(atoms[:1], hessian[:3, :3])
    ethanol = molecule("CH3CH2OH")
    ethanol.calc = EquivariantCalculator("ethanol")
    with pytest.raises(ValueError, match="ethanol predicts neither dipole nor polarizability"):
        harmonic_spectrum(ethanol)
    with pytest.raises(ValueError, match="ethanol predicts neither"):
        dynamic_spectrum(moving(frames=5), ethanol.calc)
    with pytest.raises(ValueError, match=r"the largest force is .* relax the molecule first"):
        normal_modes(ethanol)
    with pytest.raises(ValueError, match=r"atoms\.calc is Spring"):
        normal_modes(atoms)


def finite_differences(atoms, step=2e-3):
    """Hessian from forces, without what the model's second derivatives are made by."""
    rows = []
    for k in range(3 * len(atoms)):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions.reshape(-1)[k] += sign * step
            sides.append(moved.get_forces().ravel())
        rows.append((sides[1] - sides[0]) / (2 * step))
    return (np.array(rows) + np.array(rows).T) / 2


@pytest.mark.parametrize(("model", "name", "modes"), [("rmd17-ethanol", "CH3CH2OH", 21), ("water-tensors", "H2O", 3)])
def test_frequencies_are_those_of_finite_differences(model, name, modes, check):
    atoms = molecule(name)
    atoms.calc = EquivariantCalculator(model, fast=False)
    relax(atoms, fmax=1e-3)
    found, expected = normal_modes(atoms), normal_modes(atoms, finite_differences(atoms))
    assert len(found.frequencies_per_cm) == modes
    worst = np.abs(found.frequencies_per_cm - expected.frequencies_per_cm).max()
    check("harmonic frequencies equal to finite differences (1/cm)", worst, 0.1)
