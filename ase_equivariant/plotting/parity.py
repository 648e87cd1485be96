"""Predicted against reference values."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes


def plot_parity(reference: np.ndarray, predicted: np.ndarray, ax: Axes, label: str, unit: str) -> Axes:
    """Scatter of predicted against reference values with the diagonal and the errors in the title.

    Parameters
    ----------
    reference, predicted : ndarray
        (n,) in ``unit``.
    ax : Axes
        Drawn into.
    label, unit : str
        For the axes; a user's own quantity may have no unit.
    """
    low, high = float(min(reference.min(), predicted.min())), float(max(reference.max(), predicted.max()))
    ax.plot([low, high], [low, high], color="gray", lw=0.8, zorder=1)
    size = 6 if len(reference) < 2000 else 2
    ax.scatter(reference, predicted, s=size, alpha=0.5, color="tab:blue", edgecolors="none", rasterized=True, zorder=2)
    error = predicted - reference
    mae, rmse = float(np.abs(error).mean()), float(np.sqrt(np.square(error).mean()))
    ax.set_title(f"MAE {1000 * mae:.3g}, RMSE {1000 * rmse:.3g} {f'm{unit}' if unit else '10⁻³'}", fontsize="medium")
    for which, write in (("reference", ax.set_xlabel), ("predicted", ax.set_ylabel)):
        write(f"{which} {label}{f' ({unit})' if unit else ''}")
    ax.set_aspect("equal", adjustable="datalim")
    ax.locator_params(nbins=4)  # energies have long tick labels
    return ax
