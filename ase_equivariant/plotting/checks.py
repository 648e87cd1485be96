"""The panels of a check on one system."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from ase_equivariant.plotting.diffusion import plot_displacement
from ase_equivariant.plotting.distances import plot_distances, plot_radial_distribution
from ase_equivariant.plotting.elastic import plot_stiffness
from ase_equivariant.plotting.figure import new_figure
from ase_equivariant.plotting.phonons import plot_bands, plot_phonon_dos
from ase_equivariant.plotting.stability import plot_stability
from ase_equivariant.plotting.torsion import plot_torsion
from ase_equivariant.plotting.vibrations import plot_spectrum
from ase_equivariant.recipes.checks import CrystalCheck, LiquidCheck, MoleculeCheck


def draw_check(
    found: MoleculeCheck | CrystalCheck | LiquidCheck, phonons_THz: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """A figure of everything that was checked; ``phonons_THz`` are reference frequencies of a crystal's special points.

    The one function here that makes its own axes: their number follows from what was checked.
    """
    if isinstance(found, MoleculeCheck):
        return _draw_molecule(found)
    if isinstance(found, CrystalCheck):
        return _draw_crystal(found, phonons_THz)
    figure = new_figure(13.5, 4.2)
    left, middle, right = figure.subplots(1, 3)
    plot_radial_distribution(found.radial, left, found.reference_radial)
    plot_spectrum(found.spectrum, middle)
    plot_displacement(found.diffusion, right)
    return figure


def _draw_molecule(found: MoleculeCheck) -> Figure:
    count = 2 + (found.torsion is not None) + (found.stability is not None)
    figure = new_figure(10.0, 4.0 * ((count + 1) // 2))
    axes = iter(figure.subplots((count + 1) // 2, 2, squeeze=False).flat)
    ax = plot_distances({"reference": found.reference_distances, "model": found.distances}, next(axes))
    ax.set_title(f"∫|Δh| dr = {found.difference:.3f} (sampling {found.reference_noise:.3f})", fontsize="medium")
    plot_spectrum(found.spectrum, next(axes))
    if found.torsion is not None:
        plot_torsion(found.torsion, next(axes))
    if found.stability is not None:
        plot_stability(found.stability, next(axes))
    for ax in axes:
        ax.set_axis_off()
    return figure


def _draw_crystal(found: CrystalCheck, phonons_THz: Mapping[str, np.ndarray] | None) -> Figure:
    figure = new_figure(13.0, 4.2)
    bands, dos, stiffness = figure.subplots(1, 3, width_ratios=(3, 1, 2))
    plot_bands(found.phonons, bands, phonons_THz)
    plot_phonon_dos(found.phonons, dos)
    dos.set_ylim(bands.get_ylim())
    plot_stiffness(found.elastic, stiffness)
    return figure
