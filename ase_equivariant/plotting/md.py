"""Energy and temperature along a molecular-dynamics run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes


def plot_energy(log: Mapping[str, np.ndarray], ax: Axes, **style: Any) -> Axes:
    """Potential and total energy in eV, relative to the first total energy, against time in ps."""
    zero = log["total_eV"][0]
    ax.plot(log["time_ps"], log["total_eV"] - zero, label="total", color="black", lw=1, **style)
    ax.plot(log["time_ps"], log["potential_eV"] - zero, label="potential", color="tab:blue", lw=1, **style)
    ax.set_ylabel("energy (eV)")
    ax.legend(loc="best", frameon=False)
    return ax


def plot_temperature(log: Mapping[str, np.ndarray], ax: Axes, target_K: float | None = None) -> Axes:
    """Temperature in K and its running mean against time in ps."""
    temperature = log["temperature_K"]
    ax.plot(log["time_ps"], temperature, color="tab:red", lw=0.8, alpha=0.6, label="instantaneous")
    running = np.cumsum(temperature) / np.arange(1, len(temperature) + 1)
    ax.plot(log["time_ps"], running, color="black", lw=1.2, label="running mean")
    if target_K is not None:
        ax.axhline(target_K, color="gray", lw=0.8, ls="--", label="thermostat")
    ax.set_xlabel("time (ps)")
    ax.set_ylabel("temperature (K)")
    ax.legend(loc="best", frameon=False)
    return ax
