"""Errors against the amount of data on two logarithmic axes, with fitted exponents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Factor a and exponent b of ``y ≈ a · x**b``, by least squares of the logarithms.

    Raises
    ------
    ValueError
        If there are fewer than two different x, or a value is not positive.
    """
    if len(set(x)) < 2 or min(*x, *y) <= 0:
        raise ValueError(f"a power law needs two different x and positive values, found x = {list(x)}, y = {list(y)}")
    exponent, offset = np.polyfit(np.log(x), np.log(y), 1)
    return float(np.exp(offset)), float(exponent)


def plot_power_laws(curves: Mapping[str, Sequence[tuple[float, float]]], ax: Axes) -> Axes:
    """Points (x, y) of each curve, and its fitted power law with the exponent in the legend, which is below.

    A curve whose points have only one x is drawn without a fit.
    """
    for (label, points), marker in zip(curves.items(), cycle("os^Dv<>P")):
        x, y = (list(values) for values in zip(*points, strict=True))
        (dots,) = ax.loglog(x, y, marker, markersize=5, markerfacecolor="none", label=label)
        if len(set(x)) < 2:
            continue
        factor, exponent = fit_power_law(x, y)
        ends = np.array([min(x), max(x)])
        ax.loglog(ends, factor * ends**exponent, color=dots.get_color(), linewidth=1)
        dots.set_label(f"{label}: $N^{{{exponent:.2f}}}$")
    ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12))  # points are all over the axes
    return ax
