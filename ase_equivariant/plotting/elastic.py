"""Elastic constants."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ase_equivariant.recipes.elastic import ElasticResult

_STRAINS = ("xx", "yy", "zz", "yz", "xz", "xy")


def plot_stiffness(found: ElasticResult, ax: Axes) -> Axes:
    """The 6×6 stiffness as a map with its numbers in GPa."""
    reach = float(np.abs(found.C_GPa).max())
    ax.imshow(found.C_GPa, cmap="RdBu_r", vmin=-reach, vmax=reach)
    for (i, j), value in np.ndenumerate(found.C_GPa):
        shown = f"{value + 0.0:.0f}" if round(value) else "0"
        ax.text(j, i, shown, ha="center", va="center", color="white" if abs(value) > 0.6 * reach else "black")
    ax.set_xticks(range(6), _STRAINS)
    ax.set_yticks(range(6), _STRAINS)
    ax.set_title(
        f"C (GPa); bulk {found.bulk_hill_GPa:.0f}, shear {found.shear_hill_GPa:.0f} GPa (Hill)", fontsize="medium"
    )
    return ax
