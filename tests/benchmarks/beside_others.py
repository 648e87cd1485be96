"""Time steps of dynamics alone and beside a busy process on every processor, with one thread and with several.

python tests/benchmarks/beside_others.py ethanol molecule:CH3CH2OH [--threads 2]
"""

import argparse
import multiprocessing
import os
import time

import numpy as np
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from ase_equivariant import EquivariantCalculator
from ase_equivariant.cli.common import read_structure


def busy() -> None:
    while True:
        pass


def milliseconds(atoms: Atoms, model: str, threads: int, at_least: float = 5.0) -> float:
    torch.set_num_threads(threads)
    atoms = atoms.copy()
    atoms.calc = EquivariantCalculator(model, preset="md")
    dynamics, times = VelocityVerlet(atoms, 0.5 * units.fs), []
    dynamics.run(10)
    started = time.perf_counter()
    while time.perf_counter() - started < at_least:
        before = time.perf_counter()
        dynamics.run(10)
        times.append(time.perf_counter() - before)
    return 1e3 * float(np.mean(times)) / 10  # not the median: what others cost comes in lumps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    atoms, counts = read_structure(args.structure)[1], (1, args.threads)
    processes = [multiprocessing.Process(target=busy, daemon=True) for _ in range(os.cpu_count() or 1)]
    for others in (False, True):
        for process in processes if others else ():
            process.start()
        found = ", ".join(f"{count} threads {milliseconds(atoms, args.model, count):.2f}" for count in counts)
        print(f"ms a step {'beside busy processes' if others else 'alone'}: {found}")
    for process in processes:
        process.kill()


if __name__ == "__main__":
    main()
