"""Geometry optimization with any of ASE's optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from ase import Atoms, optimize, units
from ase.filters import FrechetCellFilter
from ase.io import write
from ase.io.formats import filetype
from ase.optimize.optimize import Optimizer

from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.recipes.md_files import AppendedFile, frame_record, without_labels

OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: getattr(optimize, name)
    for name in (
        "BFGS",
        "BFGSLineSearch",
        "LBFGS",
        "LBFGSLineSearch",
        "FIRE",
        "FIRE2",
        "GPMin",
        "GoodOldQuasiNewton",
        "MDMin",
    )
    if hasattr(optimize, name)
}


@dataclass(frozen=True)
class RelaxResult:
    """What an optimization came to.

    Attributes
    ----------
    atoms : Atoms
        The last structure.
    converged : bool
        Whether all forces (and stresses, if the cell was free) are below ``fmax``.
    steps : int
        Optimizer steps.
    energy_before_eV, energy_after_eV : float
        Potential energy.
    max_force : float
        Largest force on an atom, eV/Å, constraints applied.
    volume_before_A3, volume_after_A3 : float or None
        If there is a cell.
    """

    atoms: Atoms
    converged: bool
    steps: int
    energy_before_eV: float
    energy_after_eV: float
    max_force: float
    volume_before_A3: float | None
    volume_after_A3: float | None


def relax(
    atoms: Atoms,
    *,
    optimizer: str = "BFGS",
    fmax: float = 0.01,
    steps: int = 500,
    cell: bool = False,
    pressure_GPa: float = 0.0,
    cell_mask: tuple[bool, bool, bool, bool, bool, bool] | None = None,
    trajectory: str | Path | None = None,
    output: str | Path | None = None,
    progress: Callable[[int, float, float], None] | None = None,
) -> RelaxResult:
    """Bring ``atoms`` to a minimum of its calculator's energy, in place.

    Parameters
    ----------
    atoms : Atoms
        With a calculator; constraints are respected.
    optimizer : str
        One of ``OPTIMIZERS``.
    fmax : float
        eV/Å, the largest force of a converged structure.
    steps : int
        At most so many.
    cell : bool
        Whether the cell relaxes too (ASE's FrechetCellFilter), against ``pressure_GPa``; of slabs and wires its
        periodic directions, if they lie along Cartesian axes, and against no pressure.
    cell_mask : tuple of 6 bool, optional
        Which components of the strain (xx, yy, zz, yz, xz, xy) are free, of those that may be.
    trajectory : path, optional
        Extended-XYZ file of all steps.
    output : path, optional
        Final structure, in the format of its ending; written whole or not at all. That ASE can write it is tried
        before anything moves.
    progress : callable, optional
        Called with step, energy (eV) and largest force (eV/Å).

    Raises
    ------
    ValueError
        For a structure without atoms, an unknown optimizer, a free cell where there is none, a pressure on a cell that
        is not free or not periodic in all directions, or an output that ASE cannot write.
    RuntimeError
        If the calculator gives something that is not finite.
    """
    check_relaxation(optimizer, fmax, steps, cell, pressure_GPa)
    if atoms.calc is None:
        raise ValueError("the atoms have no calculator: set atoms.calc first")
    if not len(atoms):
        raise ValueError("the structure has no atoms: there is nothing to relax")
    has_cell = atoms.cell.rank == 3
    if cell and not (has_cell and atoms.pbc.any()):
        raise ValueError("there is no periodic cell to relax: leave `cell` out")
    if pressure_GPa and not atoms.pbc.all():
        raise ValueError(
            f"a pressure of {pressure_GPa:g} GPa on a structure that is not periodic in all directions would take the "
            "vacuum away: leave it out"
        )
    energy_before, volume_before = atoms.get_potential_energy(), atoms.get_volume() if has_cell else None
    output_format = None if output is None else _writable_format(Path(output), without_labels(atoms))
    pressure = pressure_GPa * units.GPa
    target = FrechetCellFilter(atoms, mask=free_strains(atoms, cell_mask), scalar_pressure=pressure) if cell else atoms
    dynamics = OPTIMIZERS[optimizer](target, logfile=None)  # type: ignore[arg-type] # ASE takes filters for atoms
    frames = AppendedFile(Path(trajectory)) if trajectory is not None else None

    def observe() -> None:
        force = largest_force(atoms)
        if not np.isfinite(force):
            raise RuntimeError(f"step {dynamics.nsteps}: forces are not finite: start from a more sensible structure")
        if frames is not None:
            frames.append(frame_record(atoms, dynamics.nsteps, 0.0))
        if progress is not None:
            progress(dynamics.nsteps, atoms.get_potential_energy(), force)

    dynamics.attach(observe)
    try:
        converged = bool(dynamics.run(fmax=fmax, steps=steps))
    finally:
        if frames is not None:
            frames.close()
    if output is not None:
        with atomic_path(output) as temporary:
            write(temporary, without_labels(atoms), format=output_format)
    return RelaxResult(
        atoms,
        converged,
        dynamics.nsteps,
        float(energy_before),
        float(atoms.get_potential_energy()),
        largest_force(atoms),
        volume_before,
        atoms.get_volume() if has_cell else None,
    )


def free_strains(atoms: Atoms, mask: Sequence[bool] | None = None) -> np.ndarray:
    """Components of the strain (xx, yy, zz, yz, xz, xy) of the periodic directions, (6,) bool, and of ``mask``.

    Where a structure is not periodic, its energy does not depend on the cell.

    Raises
    ------
    ValueError
        If its periodic directions are not a Cartesian axis or a plane of two.
    """
    periodic = atoms.cell.array[atoms.pbc]
    extends = np.abs(periodic).max(axis=0) > 1e-6 * np.abs(periodic).max()
    if extends.sum() > len(periodic):
        raise ValueError(
            "the cell of a structure that is not periodic in all directions relaxes if the periodic ones lie along "
            "Cartesian axes: rotate it (atoms.rotate(…, rotate_cell=True))"
        )
    free = np.array([extends[i] and extends[j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])
    return free if mask is None else free & np.asarray(mask, dtype=bool)


def check_relaxation(optimizer: str, fmax: float, steps: int, cell: bool, pressure_GPa: float) -> None:
    """Raise ValueError for options of :func:`relax` that make no sense for any structure."""
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"no optimizer {optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
    if not fmax > 0 or steps < 0:
        raise ValueError(f"fmax = {fmax} and steps = {steps}: use fmax > 0 and steps >= 0")
    if not np.isfinite(pressure_GPa):
        raise ValueError(f"pressure_GPa = {pressure_GPa}: give a number")
    if pressure_GPa and not cell:
        raise ValueError(f"a pressure of {pressure_GPa:g} GPa does nothing to a fixed cell: relax it too (--cell)")


def _writable_format(path: Path, atoms: Atoms) -> str:
    """ASE's format of this ending, in which it has written the atoms once, elsewhere."""
    try:
        name = filetype(path.name, read=False)
        with TemporaryDirectory() as folder:
            write(Path(folder) / path.name, atoms, format=name)
    except Exception as error:  # ASE's writers raise whatever their format makes them stumble on
        raise ValueError(f"{path}: ASE cannot write it ({type(error).__name__}: {error})") from None
    return name


def largest_force(atoms: Atoms) -> float:
    """Length of the largest force on an atom in eV/Å, constraints applied."""
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max(initial=0.0))
