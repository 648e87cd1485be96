"""``ase-equivariant analyse``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms

from ase_equivariant.cli.common import OutputOption, OverwriteOption, console, number_table, read_frames
from ase_equivariant.cli.results import result_files, write_results
from ase_equivariant.plotting.diffusion import plot_displacement
from ase_equivariant.plotting.distances import plot_distances, plot_radial_distribution
from ase_equivariant.plotting.figure import Panel, panels_figure
from ase_equivariant.plotting.vibrations import plot_spectrum
from ase_equivariant.recipes.diffusion import Diffusion, diffusion
from ase_equivariant.recipes.distances import RadialDistribution, distance_distribution, radial_distribution
from ase_equivariant.recipes.frames import interval_fs, without_beginning
from ase_equivariant.recipes.vibrations import (
    PER_CM_PER_THZ,
    VibrationalSpectrum,
    fastest_per_cm,
    highest_per_cm,
    vibrational_spectrum,
)


def analyse(
    trajectory: Annotated[Path, typer.Argument(help="Frames: any file ASE reads, such as NAME.md.extxyz of md.")],
    rdf: Annotated[bool, typer.Option("--rdf", help="Radial distributions; of a molecule, all distances.")] = False,
    vdos: Annotated[bool, typer.Option("--vdos", help="Vibrational density of states.")] = False,
    diffuse: Annotated[bool, typer.Option("--diffusion", help="Mean squared displacement, diffusion.")] = False,
    elements: Annotated[
        list[str] | None, typer.Option("--element", help="Whose diffusion, as often as needed; default all.")
    ] = None,
    discard_ps: Annotated[float, typer.Option(help="Left out at the beginning, ps.")] = 0.0,
    resolution: Annotated[float, typer.Option(help="Width of vibrational peaks, 1/cm.")] = 10.0,
    frame_fs: Annotated[float | None, typer.Option(help="Time between frames, fs, if the file does not say.")] = None,
    output_dir: OutputOption = Path("."),
    overwrite: OverwriteOption = False,
) -> None:
    """Distances, vibrations and diffusion along a trajectory; those asked for, or distances and vibrations."""
    if elements and not diffuse:
        raise ValueError("--element is of --diffusion: give that too, or leave it out")
    frames = without_beginning(read_frames(trajectory), discard_ps, frame_fs)
    pbc = frames[0].pbc
    partly = pbc.any() and not pbc.all()
    if rdf and partly:
        raise ValueError(f"--rdf: {trajectory} is periodic in some directions only: neither g(r) nor h(r) is defined")
    if not (rdf or vdos or diffuse):
        rdf, vdos = not partly, True
        if partly:
            console.print("periodic in some directions only: no radial distribution", soft_wrap=True)
    files = result_files(output_dir, trajectory.name.split(".")[0], "analysis", overwrite)
    panels: list[Panel] = []
    found: dict[str, Any] = {"trajectory": str(trajectory), "num_frames": len(frames)}
    if rdf and pbc.all():
        found["radial_distribution"] = radial = radial_distribution(frames)
        _print_peaks(radial)
        panels.append(lambda ax: plot_radial_distribution(radial, ax))
    elif rdf:
        found["distances"] = distances = distance_distribution(frames, max(10.0, _extent_A(frames)))
        panels.append(lambda ax: plot_distances({trajectory.name: distances}, ax))
    if vdos:
        found["vibrations"] = spectrum = vibrational_spectrum(frames, frame_fs, resolution / PER_CM_PER_THZ)
        _print_spectrum(spectrum)
        _print_highest(frames, frame_fs)
        panels.append(lambda ax: plot_spectrum(spectrum, ax))
    if diffuse:
        found["diffusion"] = moved = diffusion(frames, elements, frame_fs)
        _print_diffusion(moved)
        panels.append(lambda ax: plot_displacement(moved, ax))
    write_results(files, found, panels_figure([panels], 5.6, 4.2))


def _extent_A(frames: Sequence[Atoms]) -> float:
    """No two atoms of a molecule are farther apart."""
    return max(float(np.linalg.norm(np.ptp(frame.positions, axis=0))) for frame in frames)


def _print_peaks(found: RadialDistribution) -> None:
    rows = [(pair, f"{found.r_A[g.argmax()]:.2f}", f"{g.max():.2f}") for pair, g in found.partials.items()]
    console.print(number_table(("pair", "highest peak at (Å)", "g"), rows))


def _print_spectrum(found: VibrationalSpectrum) -> None:
    rows = []
    for symbol, part in found.partials_per_THz.items():
        rows.append(
            (symbol, f"{found.frequency_per_cm[part.argmax()]:.0f}", f"{part.sum() * found.frequency_THz[1]:.3f}")
        )
    console.print(number_table(("element", "highest peak at (1/cm)", "share of states"), rows))


def _print_highest(frames: Sequence[Atoms], frame_fs: float | None) -> None:
    step = interval_fs(frames, frame_fs)
    line = f"frequencies above {highest_per_cm(step):.0f}/cm cannot be seen with frames {step:g} fs apart"
    too_far = highest_per_cm(step) < fastest_per_cm(frames[0])
    if too_far:
        line = f"WARNING: {line}: what is faster appears at wrong, lower ones; write more frames (md --interval)"
    console.print(line, soft_wrap=True, style="yellow" if too_far else None)


def _print_diffusion(found: Diffusion) -> None:
    place = {1: " along one direction", 2: " in two dimensions", 3: " in three dimensions"}[found.dimensions]
    console.print(
        f"diffusion of {found.elements}{place}: ({found.diffusion_cm2_per_s:.3e} ± {found.error_cm2_per_s:.1e}) cm²/s "
        f"between {found.fit_ps[0]:g} and {found.fit_ps[1]:g} ps, displacement ∝ time^{found.exponent:.2f}",
        soft_wrap=True,
    )
    if not 0.8 < found.exponent < 1.2:
        console.print("this is not diffusion (it would be time^1): run longer, or the atoms do not diffuse")
