"""Mean squared displacements."""

from __future__ import annotations

from matplotlib.axes import Axes

from ase_equivariant.recipes.diffusion import Diffusion


def plot_displacement(found: Diffusion, ax: Axes) -> Axes:
    """Mean squared displacement against lag, both logarithmic, with the part that was fitted."""
    half = max(2, len(found.time_ps) // 2)  # beyond, few time origins are left
    ax.loglog(found.time_ps[1:half], found.msd_A2[1:half], color="tab:blue", lw=1, label=found.elements)
    first, last = found.fit_ps
    fitted = (found.time_ps >= first) & (found.time_ps <= last)
    label = f"D = {found.diffusion_cm2_per_s:.2e} ± {found.error_cm2_per_s:.0e} cm²/s"
    ax.loglog(found.time_ps[fitted], found.msd_A2[fitted], color="black", lw=2.5, label=label)
    ax.set(xlabel="lag (ps)", ylabel="mean squared displacement (Å²)")
    ax.legend(loc="best", frameon=False)
    return ax
