"""Vibrational density of states from the velocities of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.fft import irfft, next_fast_len, rfft

from ase_equivariant.recipes.frames import check_frames, drifts, fixed_atoms, interval_fs, velocities

PER_CM_PER_THZ = 33.35640951981521


@dataclass(frozen=True)
class VibrationalSpectrum:
    """Density of vibrational states.

    Attributes
    ----------
    frequency_THz : ndarray
        (n,) from 0 to the largest that the frames resolve.
    dos_per_THz : ndarray
        (n,) its integral is 1.
    partials_per_THz : dict of str to ndarray
        By element; they add up to ``dos_per_THz``.
    resolution_THz : float
        Width at half height of a vibration that never loses its phase.
    """

    frequency_THz: np.ndarray
    dos_per_THz: np.ndarray
    partials_per_THz: dict[str, np.ndarray]
    resolution_THz: float

    @property
    def frequency_per_cm(self) -> np.ndarray:
        """Wave numbers, 1/cm."""
        return self.frequency_THz * PER_CM_PER_THZ


def autocorrelation(signal: np.ndarray, lags: int | None = None) -> np.ndarray:
    """Mean over time origins of x(t) x(t + lag), by Wiener and Khinchin's theorem.

    Parameters
    ----------
    signal : ndarray
        (frames, …) real; padded with zeros, so that its end does not meet its beginning.
    lags : int, optional
        How many, from 0 on; default all.

    Returns
    -------
    ndarray
        (lags, …)
    """
    frames = len(signal)
    size = next_fast_len(2 * frames, real=True)
    spectrum = rfft(signal, size, axis=0)
    sums = irfft(np.abs(spectrum) ** 2, size, axis=0)[: lags or frames]
    origins = frames - np.arange(len(sums))
    return sums / origins.reshape(-1, *[1] * (signal.ndim - 1))


def vibrational_spectrum(
    frames: Sequence[Atoms],
    interval: float | None = None,
    resolution_THz: float = 0.3,
    mass_weighted: bool = True,
    remove_drift: bool | None = None,
) -> VibrationalSpectrum:
    """Fourier transform of the velocity autocorrelation, cut off smoothly by a Hann window.

    Parameters
    ----------
    frames : sequence of Atoms
        With momenta, at equal intervals; vibrations faster than half a period per frame appear at wrong frequencies.
        Atoms that the constraints of the first frame fix have no vibrations and are left out.
    interval : float, optional
        fs between frames; default what the frames say.
    resolution_THz : float
        Width of the peaks; 0.3 THz is 10/cm. Trajectories are to be several times longer than its inverse.
    mass_weighted : bool
        Weights by mass give each degree of freedom the same area at equilibrium; without, light atoms dominate.
    remove_drift : bool, optional
        Whether to subtract the motion of the centre of mass; default where constraints hold no atoms. The rotation of
        a molecule stays, below 100/cm.

    Raises
    ------
    ValueError
        If there are too few frames for the resolution, no momenta, or no times.

    References
    ----------
    Dickey and Paskin, Phys. Rev. 188, 1407 (1969).
    """
    check_frames(frames, 2)
    step = interval_fs(frames, interval)
    lags = lags_for(resolution_THz, step, len(frames))
    speed = velocities(frames)
    masses = frames[0].get_masses()
    if drifts(frames[0]) if remove_drift is None else remove_drift and len(masses) > 1:
        speed = speed - (np.einsum("tnx,n->tx", speed, masses) / masses.sum())[:, None]
    symbols = np.array(frames[0].get_chemical_symbols())
    free = ~fixed_atoms(frames[0])
    speed, masses, symbols = speed[:, free], masses[free], symbols[free]
    correlations = {str(element): np.zeros(lags) for element in dict.fromkeys(symbols)}
    for atom, (mass, symbol) in enumerate(zip(masses, symbols, strict=True)):
        weight = mass if mass_weighted else 1.0
        correlations[symbol] += weight * autocorrelation(speed[:, atom], lags).sum(axis=-1)
    start = sum(float(correlation[0]) for correlation in correlations.values())
    if not start > 0:
        raise ValueError("nothing moves in these frames: there are no vibrations")
    partials = {symbol: cosine_transform(c / start, step) for symbol, c in correlations.items()}
    frequency = np.linspace(0, 500 / step, len(next(iter(partials.values()))))
    return VibrationalSpectrum(frequency, sum(partials.values(), np.zeros(len(frequency))), partials, resolution_THz)


def highest_per_cm(step_fs: float) -> float:
    """Wave number in 1/cm, half a period in a step, beyond which vibrations appear at wrong, lower ones.

    >>> round(highest_per_cm(10.0))
    1668
    """
    return 500 / step_fs * PER_CM_PER_THZ


def fastest_per_cm(atoms: Atoms) -> float:
    """Wave number in 1/cm that no vibration of such atoms exceeds: 4500 with hydrogen (H2 is at 4401), else 2500."""
    return 4500.0 if (atoms.numbers == 1).any() else 2500.0


def lags_for(resolution_THz: float, step_fs: float, num_frames: int) -> int:
    """Lags of a correlation that give peaks of this width.

    Raises
    ------
    ValueError
        If it is not above 0, wider than all that the frames show, or there are too few of them for it.
    """
    if not resolution_THz > 0:
        raise ValueError(f"a resolution of {resolution_THz * PER_CM_PER_THZ:g}/cm: use a width above 0")
    # A Hann window that ends at lag T has a transform with full width at half maximum 1/T.
    lags = round(1000 / (resolution_THz * step_fs))
    if lags < 2:
        raise ValueError(
            f"a resolution of {resolution_THz * PER_CM_PER_THZ:g}/cm: frames {step_fs:g} fs apart show no more than "
            f"{highest_per_cm(step_fs):.0f}/cm, use a finer one"
        )
    if lags > num_frames:
        raise ValueError(
            f"a resolution of {resolution_THz:g} THz ({resolution_THz * PER_CM_PER_THZ:g}/cm) needs "
            f"{1 / resolution_THz:.3g} ps of trajectory, these {num_frames} frames are "
            f"{num_frames * step_fs / 1000:.3g} ps: give more frames or a coarser resolution"
        )
    return lags


def cosine_transform(correlation: np.ndarray, step_fs: float) -> np.ndarray:
    """``4 ∫ C(t) cos(2πνt) dt`` over lags from 0, in C's unit by THz, at equal steps of ν from 0 to 500/step THz.

    C is cut off by a Hann window, with zeros behind for a smooth curve.
    """
    lags = len(correlation)
    windowed = correlation * np.cos(np.pi * np.arange(lags) / (2 * lags)) ** 2
    size = 2 * next_fast_len(2 * lags, real=True)
    spectrum = 2 * rfft(windowed, size).real - windowed[0]
    return spectrum * 2 * step_fs / 1000
