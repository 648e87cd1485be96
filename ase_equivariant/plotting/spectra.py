"""Infrared and Raman spectra, wave numbers falling to the right as in the laboratory."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ase_equivariant.recipes.dynamic_spectra import DynamicSpectrum

# Labels of bands are drawn above this part of the strongest.
_LABELLED = 0.03


def plot_harmonic(
    frequencies_per_cm: np.ndarray, intensities: np.ndarray, ax: Axes, label: str, width_per_cm: float = 20.0
) -> Axes:
    """Sticks of harmonic intensities, broadened to Lorentzian bands as high as their sticks, wave numbers on top.

    Parameters
    ----------
    frequencies_per_cm, intensities : ndarray
        (modes,); imaginary (negative) frequencies are left out.
    ax : Axes
        To draw on.
    label : str
        Of the intensities, with their unit.
    width_per_cm : float
        Full width of a band at half of its height.
    """
    real = frequencies_per_cm > 0
    centres, heights = frequencies_per_cm[real], intensities[real]
    highest = max(float(heights.max(initial=0.0)), 1e-12)
    grid = np.linspace(0, _right_end(centres), 8000)
    bands = heights / (1 + np.square((grid[:, None] - centres) / (width_per_cm / 2)))
    ax.plot(grid, bands.sum(axis=1), color="black", lw=1)
    ax.vlines(centres, 0, heights, color="tab:red", lw=1.5)
    for centre, height in zip(centres, heights, strict=True):
        if height > _LABELLED * highest:
            ax.annotate(f"{centre:.0f}", (centre, height), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    ax.set(ylabel=label, ylim=(0, 1.2 * max(highest, float(bands.sum(axis=1).max(initial=0.0)))))
    return _wave_numbers(ax, float(grid[-1]))


def plot_dynamic(found: DynamicSpectrum, values: np.ndarray, ax: Axes, label: str) -> Axes:
    """One of the spectra of a trajectory, ``found.ir_km_cm_per_mol`` or ``found.raman_A4_cm_per_amu``."""
    ax.plot(found.wave_number_per_cm, values, color="tab:blue", lw=1)
    noticeable = found.wave_number_per_cm[values > 5e-3 * values.max()]
    ax.set(ylabel=label, ylim=(0, None))
    ax.set_title(f"molecular dynamics, {found.temperature_K:.0f} K", fontsize=9, loc="right")
    return _wave_numbers(ax, _right_end(noticeable))


def _right_end(wave_numbers: np.ndarray) -> float:
    return 1.08 * float(wave_numbers.max(initial=1000.0))


def _wave_numbers(ax: Axes, highest: float) -> Axes:
    ax.set(xlabel="wave number (1/cm)", xlim=(highest, 0))
    return ax
