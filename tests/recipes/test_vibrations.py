"""Spectra of oscillators whose frequencies are known."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms, FixCartesian, FixScaled

from ase_equivariant.recipes.vibrations import (
    PER_CM_PER_THZ,
    autocorrelation,
    fastest_per_cm,
    highest_per_cm,
    vibrational_spectrum,
)


def oscillators(frequencies_THz, amplitudes=None, symbols="HC", step=2.0, frames=4000):
    time = step * np.arange(frames)
    atoms = []
    for t in time:
        frame = Atoms(symbols[: len(frequencies_THz)], positions=3.0 * np.eye(3)[: len(frequencies_THz)])
        speeds = [
            (1.0 if amplitudes is None else amplitudes[k]) * np.cos(2 * np.pi * f * t / 1000 + k)
            for k, f in enumerate(frequencies_THz)
        ]
        frame.set_velocities(np.outer(speeds, [0.6, 0.8, 0.0]) * 0.01 / units.fs)
        frame.info["time_fs"] = t
        atoms.append(frame)
    return atoms


def test_autocorrelation_is_the_direct_sum():
    signal = np.random.default_rng(0).normal(size=(37, 2, 3))
    direct = [np.mean(signal[: 37 - lag] * signal[lag:], axis=0) for lag in range(37)]
    np.testing.assert_allclose(autocorrelation(signal), direct, atol=1e-12)
    np.testing.assert_allclose(autocorrelation(signal, 5), direct[:5], atol=1e-12)


@pytest.mark.parametrize("constraint", [FixAtoms, FixCartesian, FixScaled])
def test_fixed_atoms_have_no_states(constraint):
    """A heavy atom beside a light one that is held: less the centre of mass, the light one would move."""
    frames = oscillators((31.7, 0.0), amplitudes=(1.0, 0.0), symbols=["Au", "C"])
    for frame in frames:
        frame.set_constraint(constraint([1]))
    found = vibrational_spectrum(frames, resolution_THz=0.5)
    alone = vibrational_spectrum([frame[:1] for frame in frames], resolution_THz=0.5)
    assert list(found.partials_per_THz) == ["Au"]
    np.testing.assert_allclose(found.dos_per_THz, alone.dos_per_THz, atol=1e-12)
    with pytest.raises(ValueError, match="nothing moves"):
        vibrational_spectrum([frame[1:] for frame in frames], resolution_THz=0.5)


def test_peaks_are_at_the_frequencies_with_the_width_asked_for():
    found = vibrational_spectrum(oscillators((90.0, 31.7)), resolution_THz=0.5, remove_drift=False)
    for symbol, frequency in (("H", 90.0), ("C", 31.7)):
        part = found.partials_per_THz[symbol]
        assert found.frequency_THz[part.argmax()] == pytest.approx(frequency, abs=found.frequency_THz[1] / 2)
        fine = np.linspace(0, found.frequency_THz[-1], 100_001)
        above = fine[np.interp(fine, found.frequency_THz, part) > part.max() / 2]
        assert above.max() - above.min() == pytest.approx(0.5, abs=0.05)
    assert found.frequency_per_cm[-1] == pytest.approx(250 * PER_CM_PER_THZ)


def test_area_is_one_and_divides_by_kinetic_energy():
    """Equal amplitudes of velocity: with masses as weights carbon has 12 times hydrogen's area, without as much."""
    frames = oscillators((90.0, 31.7))
    masses = frames[0].get_masses()
    for weighted, share in ((True, masses[0] / masses.sum()), (False, 0.5)):
        found = vibrational_spectrum(frames, mass_weighted=weighted, remove_drift=False)
        width = found.frequency_THz[1]
        assert np.trapezoid(found.dos_per_THz, dx=width) == pytest.approx(1.0, abs=1e-6)
        assert np.trapezoid(found.partials_per_THz["H"], dx=width) == pytest.approx(share, rel=2e-3)
        np.testing.assert_allclose(sum(found.partials_per_THz.values()), found.dos_per_THz, atol=1e-12)


def test_diatomic_molecule_in_a_simulation():
    """Velocity Verlet of two masses on a spring: the mode has the reduced mass, translation is left out."""
    spring, bond, step = 30.0, 1.2, 0.5
    atoms = Atoms("HO", positions=[[0, 0, 0], [0, 0, bond]])
    masses, dt = atoms.get_masses(), step * units.fs
    velocity = np.array([[0, 0, 0.05], [0, 0, -0.05 * masses[0] / masses[1]]])
    frames = []

    def forces(r):
        stretch = r[1] - r[0]
        length = np.linalg.norm(stretch)
        pull = spring * (length - bond) * stretch / length
        return np.array([pull, -pull])

    positions = atoms.positions.copy()
    for k in range(6000):
        frame = Atoms("HO", positions=positions)
        frame.set_velocities(velocity)
        frame.info["time_fs"] = k * step
        frames.append(frame)
        velocity = velocity + 0.5 * dt * forces(positions) / masses[:, None]
        positions = positions + dt * velocity
        velocity = velocity + 0.5 * dt * forces(positions) / masses[:, None]
    for frame in frames:  # the molecule flies away meanwhile
        frame.set_velocities(frame.get_velocities() + np.array([0.3, 0, 0]))
    found = vibrational_spectrum(frames, resolution_THz=1.0)
    assert found.dos_per_THz[0] < 1e-3 * found.dos_per_THz.max()
    reduced = masses.prod() / masses.sum()
    expected = np.sqrt(spring / reduced) / (2 * np.pi) * units.fs * 1000  # THz
    # Verlet's own frequency is higher by (ω Δt)² / 24.
    shift = (2 * np.pi * expected * step / 1000) ** 2 / 24
    assert found.frequency_THz[found.dos_per_THz.argmax()] == pytest.approx(expected * (1 + shift), rel=1e-3)


def test_the_highest_frequency_that_frames_show():
    """Hydrogen molecules vibrate at 4161/cm (132 THz); frames 10 fs apart show them as if folded at 1668/cm."""
    assert highest_per_cm(10.0) == pytest.approx(1667.82, abs=0.01)
    found = vibrational_spectrum(oscillators((132.0,), step=10.0), remove_drift=False)
    assert found.frequency_per_cm[-1] == pytest.approx(highest_per_cm(10.0))
    assert found.frequency_THz[found.dos_per_THz.argmax()] == pytest.approx(132.0 - 100.0, abs=0.2)
    assert fastest_per_cm(Atoms("OH")) == 4500
    assert fastest_per_cm(Atoms("CO")) == 2500


def test_what_cannot_be_resolved_is_refused():
    with pytest.raises(ValueError, match=r"a resolution of 0\.3 THz .* needs 3\.33 ps"):
        vibrational_spectrum(oscillators((31.7,), frames=100))
    with pytest.raises(ValueError, match="nothing moves"):
        vibrational_spectrum(oscillators((31.7,), amplitudes=(0.0,), frames=2000))
