"""Time of a step of MD with LAMMPS on processes and threads, beside ASE's with the same model.

    python tests/benchmarks/lammps_steps.py --cells 8 --steps 30

starts itself once for every way to run (mpirun is looked for beside Python), and prints milliseconds of the fastest
round; efficiency is that of twice as many processes. Cells of 8 silicon atoms at 300 K, time steps of 1 fs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Program, processes, threads of each.
_LAMMPS = [(program, *way) for program in ("lammps", "pair_style") for way in ((1, 1), (1, 2), (2, 1))]
WAYS = (("ase", 1, 1), ("ase", 1, 2), *_LAMMPS)
WARM_UP = 3


def silicon(cells: int):
    from ase.build import bulk

    atoms = bulk("Si", cubic=True) * (cells, cells, cells)
    atoms.rattle(0.05, seed=1)
    return atoms


def time_ase(model: str, dtype: str, cells: int, steps: int) -> float:
    from ase import units
    from ase.md.velocitydistribution import thermalize_momenta
    from ase.md.verlet import VelocityVerlet

    from ase_equivariant import EquivariantCalculator

    atoms = silicon(cells)
    atoms.calc = EquivariantCalculator(model, dtype=dtype)
    thermalize_momenta(atoms, temperature_K=300)
    dynamics = VelocityVerlet(atoms, timestep=units.fs)
    dynamics.run(WARM_UP)
    begin = time.perf_counter()
    dynamics.run(steps)
    return (time.perf_counter() - begin) / steps


def time_lammps(model: str, dtype: str, cells: int, steps: int, pair_style: bool = False) -> float | None:
    import torch
    from ase.io.lammpsdata import write_lammps_data

    from ase_equivariant import load_model
    from ase_equivariant.engines.lammps import attach, start_lammps
    from ase_equivariant.engines.lammps_plugin import build
    from ase_equivariant.engines.network_image import write_network_image
    from ase_equivariant.io.registry import resolve

    lmp = start_lammps(["-log", "none", "-screen", "none"])
    comm = lmp.get_mpi_comm()
    folder = comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else None)
    data = Path(folder) / "si.data"
    if comm.rank == 0:
        write_lammps_data(data, silicon(cells), units="metal", masses=True)
        if pair_style:
            build(Path(folder))
            write_network_image(f"{folder}/model", load_model(resolve(model)).potential, getattr(torch, dtype))
    comm.Barrier()
    lmp.commands_string(f"units metal\nread_data {data}")
    if pair_style:
        lmp.commands_string(
            f"plugin load {folder}/equivariantplugin.so\npair_style equivariant\npair_coeff * * {folder}/model Si"
        )
    else:
        statistics = attach(lmp, model, ["Si"], dtype=dtype)
    lmp.commands_string("velocity all create 300 1\ntimestep 0.001\nfix move all nve\nrun 3")
    begin = time.perf_counter()
    lmp.command(f"run {steps} pre no")
    taken = (time.perf_counter() - begin) / steps
    ghosts = lmp.extract_global("nghost") if pair_style else statistics.num_ghosts
    local = comm.gather((lmp.extract_global("nlocal"), ghosts))
    lmp.close()
    if comm.rank:
        return None
    shutil.rmtree(folder)
    print(f"(local atoms, ghosts) {local}", file=sys.stderr)
    return taken


def run_way(program: str, processes: int, threads: int, arguments: list[str]) -> float:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    mpirun = shutil.which("mpirun", path=path)
    start = [] if program == "ase" else [mpirun or "mpirun", "-n", str(processes)]
    command = [*start, sys.executable, __file__, "--only", program, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    print(f"{program} {processes} x {threads}: {1000 * float(done.stdout.split()[-1]):.1f} ms {done.stderr.strip()}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="si", help="a model that knows silicon")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--cells", type=int, default=8, help="along each edge: 8 are 4096 atoms")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("ase", "lammps", "pair_style"), help="run this here and print seconds")
    given = parser.parse_args()
    if given.only:
        numbers = (given.model, given.dtype, given.cells, given.steps)
        taken = time_ase(*numbers) if given.only == "ase" else time_lammps(*numbers, given.only == "pair_style")
        if taken is not None:
            print(taken)
        return
    arguments = [f"--{key}={getattr(given, key)}" for key in ("model", "dtype", "cells", "steps")]
    best: dict[tuple[str, int, int], float] = {}
    for _ in range(given.rounds):
        for way in WAYS:
            best[way] = min(best.get(way, float("inf")), run_way(*way, arguments))
    print(f"{8 * given.cells**3} atoms, {given.model}, {given.dtype}")
    for (program, processes, threads), seconds in best.items():
        print(f"{program:<10} {processes} x {threads} threads: {1000 * seconds:8.1f} ms a step")
    for program in ("lammps", "pair_style"):
        efficiency = best[program, 1, 1] / (2 * best[program, 2, 1])
        print(f"efficiency of {program} from 1 to 2 processes: {100 * efficiency:.0f} %")


if __name__ == "__main__":
    main()
