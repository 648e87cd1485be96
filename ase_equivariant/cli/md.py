"""``ase-equivariant md``."""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.cli.common import (
    DeviceOption,
    DtypeOption,
    ModelArgument,
    OutputOption,
    OverwriteOption,
    console,
    read_structure,
    refuse_to_lose,
)
from ase_equivariant.plotting.figure import new_figure, save_figure
from ase_equivariant.plotting.md import plot_energy, plot_temperature
from ase_equivariant.recipes.ensembles import OWN_SETTINGS, Ensemble, MDSettings
from ase_equivariant.recipes.md import MDProgress, MDResult, run_md
from ase_equivariant.recipes.md_files import MDFiles
from ase_equivariant.recipes.md_log import read_log

# Of the settings that belong to some ensembles only.
_FLAGS = {"friction_per_ps": "--friction", "pressure_GPa": "--pressure", "taut_fs": "--taut", "taup_fs": "--taup"}


def md(
    model: ModelArgument,
    file: Annotated[str, typer.Argument(help="Structure: any file ASE reads, molecule:NAME or bulk:NAME.")],
    ensemble: Annotated[
        str, typer.Option(help="nve, langevin, bussi, npt (volume free) or npt-full (cell free).")
    ] = "langevin",
    temperature: Annotated[
        float, typer.Option(help="K; with nve that of velocities which are drawn, if the file has none.")
    ] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs.")] = 0.5,
    time_ps: Annotated[float | None, typer.Option(help="Length of the whole run in ps (default 1).")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the whole run in steps, instead of --time-ps.")] = None,
    friction: Annotated[float | None, typer.Option(help="Langevin friction, 1/ps (default 10).")] = None,
    pressure: Annotated[float | None, typer.Option(help="NPT pressure, GPa (default 0).")] = None,
    taut: Annotated[
        float | None, typer.Option(help="Time constant of the Bussi and NPT thermostats, fs (default 100).")
    ] = None,
    taup: Annotated[float | None, typer.Option(help="Time constant of the NPT barostat, fs (default 1000).")] = None,
    seed: Annotated[int, typer.Option(help="Of velocities and thermostat.")] = 0,
    interval: Annotated[int, typer.Option(help="Steps between frames.")] = 20,
    restart: Annotated[bool, typer.Option("--restart", help="Continue a run that was ended or killed.")] = False,
    overwrite: OverwriteOption = False,
    max_force: Annotated[float, typer.Option(help="eV/Å; a larger force ends the run.")] = 100.0,
    output_dir: OutputOption = Path("."),
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    plot: Annotated[bool, typer.Option(help="Draw energy and temperature.")] = True,
) -> None:
    """Run molecular dynamics, in float32 unless --dtype says otherwise."""
    own = {"friction_per_ps": friction, "pressure_GPa": pressure, "taut_fs": taut, "taup_fs": taup}
    own = {name: value for name, value in own.items() if value is not None}
    settings = MDSettings.parse(
        {
            "ensemble": ensemble,
            "temperature_K": temperature,
            "timestep_fs": timestep,
            "seed": seed,
            **own,
        }
    )
    _refuse_without_meaning(settings.ensemble, own)
    if steps is not None and time_ps is not None:
        raise ValueError("--steps and --time-ps are both given: keep one of them")
    if time_ps is not None and not math.isfinite(time_ps):
        raise ValueError(f"--time-ps {time_ps}: give a time")
    total = steps if steps is not None else round(1000 * (1.0 if time_ps is None else time_ps) / timestep)
    name, atoms = read_structure(file)
    if overwrite:
        refuse_to_lose(MDFiles(output_dir, name).existing, [file], overwrite)
    if settings.ensemble == "nve" and not restart and atoms.get_momenta().any():
        console.print(
            f"starts with the velocities of {file}, not with those of a temperature: {atoms.get_temperature():.0f} K",
            soft_wrap=True,
        )
    atoms.calc = EquivariantCalculator(model, device=device, dtype=dtype, preset="md")
    bar = Progress(
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
    )
    task = bar.add_task("", total=total)
    with ExitStack() as shown:

        def show(now: MDProgress) -> None:
            if not bar.live.is_started:  # not above an error: whatever can be refused has been when this is called
                shown.enter_context(bar)
            text = (
                f"{now.potential_eV:.3f} eV  {now.temperature_K:.0f} K  "
                f"{now.steps_per_second:.0f} steps/s  {now.ns_per_day:.2f} ns/day"
            )
            bar.update(task, completed=now.step, description=text)

        result = run_md(
            atoms,
            total,
            settings,
            folder=output_dir,
            name=name,
            interval=interval,
            restart=restart,
            overwrite=overwrite,
            max_force=max_force,
            progress=show,
        )
    if plot:
        _draw(result, settings)
    _summarize(result, settings)
    if result.interrupted:
        raise typer.Exit(130)


def _refuse_without_meaning(ensemble: Ensemble, given: Collection[str]) -> None:
    taken = OWN_SETTINGS[ensemble]
    if others := [_FLAGS[name] for name in given if name not in taken]:
        raise ValueError(
            f"{', '.join(others)} would do nothing with --ensemble {ensemble}, which takes "
            f"{', '.join(_FLAGS[name] for name in taken) or 'no option of the kind'}: "
            f"leave {'it' if len(others) == 1 else 'them'} out, or choose another ensemble"
        )


def _draw(result: MDResult, settings: MDSettings) -> None:
    figure = new_figure()
    upper, lower = figure.subplots(2, 1, sharex=True)
    log = read_log(result.files.log)
    plot_energy(log, upper)
    plot_temperature(log, lower, None if settings.ensemble == "nve" else settings.temperature_K)
    save_figure(figure, result.files.plot)


def _summarize(result: MDResult, settings: MDSettings) -> None:
    state = "interrupted after" if result.interrupted else "done:"
    console.print(
        f"{state} {result.steps} steps, {result.steps * settings.timestep_fs / 1000:g} ps; "
        f"{result.steps_per_second:.0f} steps/s, {result.ns_per_day:.2f} ns/day"
    )
    console.print(
        f"second half: {result.mean_temperature_K:.1f} K, potential energy {result.mean_potential_eV:.4f} eV"
        + (f"; drift {result.drift_meV_per_atom_ps:.4f} meV/atom/ps" if settings.ensemble == "nve" else "")
    )
    console.print(f"wrote {', '.join(str(path) for path in result.files.existing)}", soft_wrap=True)
    if result.interrupted:
        console.print("the same command with --restart continues")
