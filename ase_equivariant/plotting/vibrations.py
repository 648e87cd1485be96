"""Vibrational density of states."""

from __future__ import annotations

from matplotlib.axes import Axes

from ase_equivariant.recipes.vibrations import PER_CM_PER_THZ, VibrationalSpectrum


def plot_spectrum(found: VibrationalSpectrum, ax: Axes) -> Axes:
    """Density of states against wave number, the elements' parts in colour."""
    per_cm = found.frequency_per_cm
    ax.plot(per_cm, found.dos_per_THz / PER_CM_PER_THZ, color="black", lw=1, label="all")
    if len(found.partials_per_THz) > 1:
        for symbol, part in found.partials_per_THz.items():
            ax.plot(per_cm, part / PER_CM_PER_THZ, lw=0.8, label=symbol)
        ax.legend(loc="best", frameon=False)
    occupied = per_cm[found.dos_per_THz > 1e-2 * found.dos_per_THz.max()]
    ax.set(xlabel="wave number (1/cm)", ylabel="density of states (cm)", xlim=(0, 1.05 * occupied.max()))
    # Rotation and diffusion pile up at zero, and would leave nothing to be seen of vibrations.
    vibrations = found.dos_per_THz[per_cm > 100.0].max(initial=0.0) / PER_CM_PER_THZ
    highest = found.dos_per_THz.max() / PER_CM_PER_THZ
    ax.set_ylim(0, 1.2 * vibrations if 0 < 2 * vibrations < highest else None)
    return ax
