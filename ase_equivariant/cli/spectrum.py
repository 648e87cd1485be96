"""``ase-equivariant spectrum``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.cli.common import (
    DeviceOption,
    DtypeOption,
    FileArgument,
    ModelArgument,
    OutputOption,
    OverwriteOption,
    console,
    naming,
    number_table,
    read_frames,
    read_structure,
    relaxed_molecule,
)
from ase_equivariant.cli.results import result_files, write_results
from ase_equivariant.plotting.figure import Panel, panels_figure
from ase_equivariant.plotting.spectra import plot_dynamic, plot_harmonic
from ase_equivariant.recipes.checks import sample, sampled_frames
from ase_equivariant.recipes.dynamic_spectra import DynamicSpectrum, check_constraints, dynamic_spectrum
from ase_equivariant.recipes.ensembles import MDSettings
from ase_equivariant.recipes.frames import interval_fs, without_beginning
from ase_equivariant.recipes.normal_modes import check_vibrates
from ase_equivariant.recipes.spectra import HarmonicSpectrum, check_moments, harmonic_spectrum
from ase_equivariant.recipes.vibrations import PER_CM_PER_THZ, fastest_per_cm, highest_per_cm, lags_for

_SETTLING_PS = 2.0
_COLDEST_K = 0.1


def spectrum(
    model: ModelArgument,
    file: FileArgument,
    time_ps: Annotated[
        float | None,
        typer.Option(help="Spectra of the moving molecule, too: ps of Langevin dynamics.", show_default=False),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Of the dynamics, K.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Of the dynamics.")] = 0,
    trajectory: Annotated[
        Path | None,
        typer.Option(help="Frames to take instead, 2 fs apart or so, with momenta.", show_default=False),
    ] = None,
    discard_ps: Annotated[float, typer.Option(help="Left out at the beginning of the trajectory, ps.")] = 0.0,
    frame_fs: Annotated[float | None, typer.Option(help="Time between frames, fs, if the file does not say.")] = None,
    resolution: Annotated[float, typer.Option(help="Width of bands, 1/cm.")] = 20.0,
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force after relaxation.")] = 1e-4,
    output_dir: OutputOption = Path("."),
    overwrite: OverwriteOption = False,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
) -> None:
    """Infrared and Raman spectra of a molecule: harmonic, and with --time-ps or --trajectory from molecular dynamics.

    Intensities are in km/mol (IR) and Å⁴/amu (Raman activity).
    """
    if time_ps is not None and trajectory is not None:
        raise ValueError("--time-ps and --trajectory are both given: keep one of them")
    if trajectory is None and (frame_fs is not None or discard_ps):
        raise ValueError("--frame-fs and --discard-ps are of a --trajectory: leave them out, or give one")
    if not 0 < resolution < np.inf:
        raise ValueError(f"--resolution {resolution:g}: use a width above 0, in 1/cm")
    if time_ps is not None and temperature < _COLDEST_K:
        raise ValueError(f"--temperature {temperature:g}: nothing moves; use {_COLDEST_K:g} K or more with --time-ps")
    # As little friction as keeps the temperature: it widens bands, by 5/cm here.
    settings = MDSettings(temperature_K=temperature, friction_per_ps=1.0, seed=seed)
    name, atoms = read_structure(file)
    files = result_files(output_dir, name, "spectrum", overwrite)
    frames = None if trajectory is None else without_beginning(read_frames(trajectory), discard_ps, frame_fs)
    if frames is not None:
        _refuse_another_molecule(trajectory, frames[0], file, atoms)
        _refuse_slow_frames(trajectory, frames, frame_fs)
        _refuse_too_fine(f"{trajectory}", frames[0], resolution, interval_fs(frames, frame_fs), len(frames))
    if time_ps is not None:
        with naming("--time-ps"):
            count, step = sampled_frames(time_ps, settings, _SETTLING_PS)
        _refuse_too_fine(f"--time-ps {time_ps:g}", atoms, resolution, step, count)
    atoms.calc = calc = EquivariantCalculator(model, device=device, dtype=dtype, preset="phonon")
    check_moments(calc)
    check_vibrates(atoms)
    converged = relaxed_molecule(atoms, fmax)
    harmonic = harmonic_spectrum(atoms)
    _print_modes(harmonic)
    found: dict[str, Any] = {"model": model, "structure": file, "harmonic": harmonic}
    rows = [_harmonic_panels(harmonic, resolution)]
    write_results(files, found, panels_figure(rows, 6.4, 3.4))
    if time_ps is not None:
        moving = atoms.copy()
        moving.calc = EquivariantCalculator(model, device=device, dtype=dtype, preset="md")
        with console.status(f"{time_ps:g} ps of dynamics"):
            frames = sample(moving, time_ps, settings, discard_ps=_SETTLING_PS)
    if frames is not None:
        with console.status(f"{len(frames)} frames"):
            found["dynamic"] = dynamic = dynamic_spectrum(frames, calc, frame_fs, resolution)
        console.print(f"trajectory of {len(frames)} frames: vibrations at {dynamic.temperature_K:.0f} K")
        rows.append(_dynamic_panels(dynamic))
        write_results(files, found, panels_figure(rows, 6.4, 3.4))
    if not converged:
        raise typer.Exit(2)


def _refuse_another_molecule(trajectory: Path | None, frame: Atoms, file: str, atoms: Atoms) -> None:
    if sorted(frame.numbers) != sorted(atoms.numbers):
        raise ValueError(f"{trajectory} is of {frame.symbols}, {file} of {atoms.symbols}: give one molecule's")
    if not np.allclose(sorted(frame.get_masses()), sorted(atoms.get_masses()), rtol=1e-3):
        raise ValueError(f"{trajectory} and {file} have other isotopes: give a structure with the trajectory's masses")


def _refuse_slow_frames(trajectory: Path | None, frames: Sequence[Atoms], frame_fs: float | None) -> None:
    step, needed = interval_fs(frames, frame_fs), fastest_per_cm(frames[0])
    if highest_per_cm(step) < needed:
        raise ValueError(
            f"{trajectory}: with frames {step:g} fs apart, vibrations above {highest_per_cm(step):.0f}/cm appear at "
            "wrong frequencies: write frames at shorter intervals (md --interval), "
            f"{500 * PER_CM_PER_THZ / needed:.1f} fs at most"
        )


def _refuse_too_fine(source: str, atoms: Atoms, resolution: float, step_fs: float, num_frames: int) -> None:
    with naming(source):
        check_constraints(atoms)
        lags_for(resolution / PER_CM_PER_THZ, step_fs, num_frames - 1)


def _harmonic_panels(found: HarmonicSpectrum, width: float) -> list[Panel]:
    frequencies = found.modes.frequencies_per_cm
    kinds = ((found.ir_km_per_mol, "IR absorption (km/mol)"), (found.raman_A4_per_amu, "Raman activity (Å⁴/amu)"))
    return [
        lambda ax, values=values, label=label: plot_harmonic(frequencies, values, ax, label, width)  # type: ignore[misc]
        for values, label in kinds
        if values is not None
    ]


def _dynamic_panels(found: DynamicSpectrum) -> list[Panel]:
    kinds = ((found.ir_km_cm_per_mol, "IR absorption (km·cm/mol)"), (found.raman_A4_cm_per_amu, "Raman (Å⁴·cm/amu)"))
    return [
        lambda ax, values=values, label=label: plot_dynamic(found, values, ax, label)  # type: ignore[misc]
        for values, label in kinds
        if values is not None
    ]


def _print_modes(found: HarmonicSpectrum) -> None:
    columns = {
        "wave number (1/cm)": (found.modes.frequencies_per_cm, ".1f"),
        "IR (km/mol)": (found.ir_km_per_mol, ".2f"),
        "Raman (Å⁴/amu)": (found.raman_A4_per_amu, ".2f"),
        "depolarization": (found.depolarization, ".3f"),
    }
    shown = {title: (values, form) for title, (values, form) in columns.items() if values is not None}
    modes = range(len(found.modes.frequencies_per_cm))
    rows = [tuple(_text(values[k], form) for values, form in shown.values()) for k in modes]
    console.print(number_table(tuple(shown), rows))
    if (found.modes.frequencies_per_cm < 0).any():
        console.print("negative wave numbers are imaginary: this is no minimum")


def _text(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form)
