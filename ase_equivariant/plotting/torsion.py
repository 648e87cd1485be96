"""Torsion scans."""

from __future__ import annotations

from matplotlib.axes import Axes

from ase_equivariant.recipes.torsion import TorsionScan


def plot_torsion(found: TorsionScan, ax: Axes) -> Axes:
    """Energy in meV against the dihedral; points that did not relax are hollow."""
    energies = 1000 * found.energies_eV
    ax.plot(found.angles_deg, energies, color="tab:blue", lw=1)
    for done, fill in ((True, "tab:blue"), (False, "none")):
        chosen = found.converged == done
        ax.plot(found.angles_deg[chosen], energies[chosen], "o", color="tab:blue", mfc=fill, ms=4)
    ax.set(xlabel=f"dihedral {'–'.join(map(str, found.indices))} (°)", ylabel="energy (meV)")
    ax.set_ylim(0, None)
    return ax
