"""How long runs lasted."""

from __future__ import annotations

from matplotlib.axes import Axes

from ase_equivariant.recipes.stability import StabilityResult


def plot_stability(found: StabilityResult, ax: Axes) -> Axes:
    """One bar a run, as long as it survived; red where a bond broke."""
    runs = range(1, len(found.survived_ps) + 1)
    colours = ["tab:red" if failed else "tab:blue" for failed in found.failed]
    ax.barh(runs, found.survived_ps, color=colours)
    ax.set(xlabel="time (ps)", ylabel="run", xlim=(0, found.length_ps))
    ax.locator_params(axis="y", integer=True)
    ax.set_title(f"{found.failed.sum()} of {len(found.failed)} runs broke a bond", fontsize="medium")
    return ax
