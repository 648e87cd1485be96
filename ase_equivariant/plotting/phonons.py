"""Phonon band structure and density of states."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from ase_equivariant.recipes.phonons import PhononResult


def plot_bands(found: PhononResult, ax: Axes, reference_THz: Mapping[str, np.ndarray] | None = None) -> Axes:
    """Bands along the path; reference frequencies of special points are circles."""
    ends = np.flatnonzero(np.diff(found.path) == 0) + 1  # where the path jumps
    for part in np.split(np.arange(len(found.path)), ends):
        ax.plot(found.path[part], found.bands_THz[part], color="tab:blue", lw=1)
    for name, values in (reference_THz or {}).items():
        places = [x for x, label in zip(found.tick_positions, found.tick_labels, strict=True) if label == name]
        for x in places:
            ax.plot([x] * len(values), values, "o", color="black", mfc="none", ms=5)
    for x in found.tick_positions:
        ax.axvline(x, color="gray", lw=0.5, zorder=0)
    labels = _merged_labels(found)
    ax.set_xticks(list(labels), list(labels.values()))
    ax.set(ylabel="frequency (THz)", xlim=(found.path[0], found.path[-1]))
    ax.set_ylim(min(0.0, 1.05 * found.lowest_THz) if found.lowest_THz < -0.05 else 0.0, None)
    return ax


def plot_phonon_dos(found: PhononResult, ax: Axes) -> Axes:
    """Density of states, frequency upwards as beside a band structure."""
    ax.plot(found.dos_per_THz, found.dos_THz, color="tab:blue", lw=1)
    ax.fill_betweenx(found.dos_THz, found.dos_per_THz, color="tab:blue", alpha=0.2)
    ax.set(xlabel="states/THz", xlim=(0, None))
    return ax


def _merged_labels(found: PhononResult) -> dict[float, str]:
    """One label for the two points that meet where the path jumps."""
    labels: dict[float, str] = {}
    for x, label in zip(found.tick_positions.tolist(), found.tick_labels, strict=True):
        shown = "Γ" if label == "G" else label
        labels[x] = f"{labels[x]}|{shown}" if x in labels else shown
    return labels
