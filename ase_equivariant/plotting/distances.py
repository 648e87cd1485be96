"""Distances in molecules and radial distribution functions."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from ase_equivariant.recipes.distances import DistanceDistribution, RadialDistribution


def plot_distances(distributions: Mapping[str, DistanceDistribution], ax: Axes) -> Axes:
    """h(r) of one or several trajectories by label, over each other."""
    for label, found in distributions.items():
        ax.plot(found.r_A, found.h_per_A, lw=1, label=label)
    reach = [found.r_A[found.h_per_A > 0].max(initial=0.0) for found in distributions.values()]
    ax.set_xlim(0, 1.05 * max(reach))
    ax.set(xlabel="distance (Å)", ylabel="h(r) (1/Å)")
    ax.legend(loc="best", frameon=False)
    return ax


def plot_radial_distribution(found: RadialDistribution, ax: Axes, reference: RadialDistribution | None = None) -> Axes:
    """g(r) by pair of elements; a reference is dashed, in the same colours."""
    for k, (pair, g) in enumerate(found.partials.items()):
        ax.plot(found.r_A, g, lw=1, color=f"C{k}", label=pair)
        if reference is not None:
            ax.plot(reference.r_A, reference.partials[pair], lw=1, ls="--", color=f"C{k}")
    ax.axhline(1.0, color="gray", lw=0.8, zorder=0)
    ax.set(xlabel="distance (Å)", ylabel="g(r)", xlim=(0, found.r_A[-1]))
    _cut_bonds(found, ax)
    ax.legend(loc="best", frameon=False)
    return ax


def _cut_bonds(found: RadialDistribution, ax: Axes) -> None:
    """Peaks of bonds within molecules are an order of magnitude higher than what lies between molecules."""
    highest = max(g.max() for g in found.partials.values())
    if highest > 12:
        ax.set_ylim(0, 6)
    else:
        ax.set_ylim(0, None)
