"""``ase-equivariant relax --parsl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from ase_equivariant.cli.common import console, expand_folders, read_structures, refuse_to_lose
from ase_equivariant.engines.parsl import parsl_submit
from ase_equivariant.engines.throughput import Job, run_all
from ase_equivariant.io.atomic import atomic_path


def relax_many(job: Job, files: Sequence[str], config: Path, chunk: int, output_dir: Path, overwrite: bool) -> bool:
    """Do a job for all frames of all files with Parsl, write ``relaxed.extxyz`` and say what failed.

    Returns
    -------
    bool
        Whether all structures converged, or were evaluated.

    Raises
    ------
    FileExistsError
        If the output is an input, or is there and not to be replaced.
    ValueError
        If two structures have the same name.
    """
    output = output_dir / "relaxed.extxyz"
    sources = expand_folders(files)
    refuse_to_lose([output], sources, overwrite)
    structures: dict[str, Atoms] = {}
    for file in sources:
        for name, atoms in read_structures(file).items():
            if name in structures:
                raise ValueError(f"two structures have the name {name}, the second in {file}: rename a file")
            structures[name] = atoms
    with console.status("starting workers") as status, parsl_submit(config) as submit:

        def show(done: int, total: int) -> None:
            status.update(f"{done} of {total} structures done")

        found = run_all(job, structures, output_dir.resolve() / "relax.results", submit, chunk=chunk, progress=show)
    good = {name: record for name, record in found.items() if "error" not in record}
    frames = [_frame(structures[name], name, record) for name, record in good.items()]
    with atomic_path(output) as temporary:
        write(temporary, frames, format="extxyz")
    unconverged = [name for name, record in good.items() if job.steps and not record["converged"]]
    for name in unconverged:
        force = good[name]["max_force_eV_per_A"]
        console.print(f"{name}: NOT converged, largest force {force:.4f} eV/Å", soft_wrap=True)
    for name, record in found.items():
        if "error" in record:
            console.print(f"{name}: FAILED, {record['error']}", soft_wrap=True)
    state = f"converged, {len(unconverged)} not converged" if job.steps else "evaluated"
    console.print(
        f"{len(good) - len(unconverged)} {state}, {len(found) - len(good)} failed; wrote {output}", soft_wrap=True
    )
    return len(good) == len(found) and not unconverged


def _frame(start: Atoms, name: str, record: Mapping[str, Any]) -> Atoms:
    """The relaxed structure with its energy and forces."""
    atoms = start.copy()
    atoms.positions = np.reshape(record["positions_A"], (-1, 3))
    atoms.cell = np.array(record["cell_A"])
    atoms.info |= {"name": name, "converged": record["converged"], "steps": record["steps"]}
    forces = np.reshape(record["forces_eV_per_A"], (-1, 3))
    atoms.calc = SinglePointCalculator(atoms, energy=record["energy_eV"], forces=forces)
    return atoms
