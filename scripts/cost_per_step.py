"""Time of a step of dynamics and test error of models, in turns: what a better model costs.

python scripts/cost_per_step.py ethanol-gvp ethanol FOLDER/*-950-0/model.safetensors    # molecule: ethanol; one thread
"""

import sys
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from ase.build import molecule

from ase_equivariant import EquivariantCalculator

ROUNDS, STEPS = 15, 100


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    start = molecule("CH3CH2OH").positions
    moves = [start + rng.normal(scale=0.05, size=start.shape) for _ in range(10)]
    runs = {}
    for name in sys.argv[1:]:
        atoms = molecule("CH3CH2OH")
        atoms.calc = EquivariantCalculator(name, preset="md")
        atoms.get_forces()  # compiled and compared with the eager model
        runs[Path(name).parent.name or name] = (atoms, [])
    for _ in range(ROUNDS):
        for atoms, times in runs.values():
            begin = time.perf_counter()
            for positions in islice(cycle(moves), STEPS):
                atoms.positions = positions
                atoms.get_forces()
            times.append((time.perf_counter() - begin) / STEPS)
    print("| model | parameters | test forces MAE (meV/Å) | ms/step | evaluated |\n|---|---|---|---|---|")
    for name, (atoms, times) in runs.items():
        calc = atoms.calc
        size = sum(p.numel() for p in calc.potential.parameters())
        error = calc.card.errors.get("test forces MAE (meV/Å)")
        how = "compiled" if calc.is_fast else "eagerly"
        print(f"| {name} | {size} | {'–' if error is None else f'{error:.2f}'} | {1e3 * median(times):.2f} | {how} |")


main()
