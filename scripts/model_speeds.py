"""Time of a step of dynamics of shipped models, all or those named, in turns on one thread.

python scripts/model_speeds.py ../shared/data models/speeds.json [NAME …]    # the folder of their training files
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ase_equivariant import EquivariantCalculator
from ase_equivariant.io.registry import shipped_models
from ase_equivariant.training.machine import machine
from ase_equivariant.training.readers import read_structures

ROUNDS, SECONDS, MOVES = 25, 0.05, 0.03  # turns, how long one is at least, Å that atoms are displaced by at random


def largest_structure(calc: EquivariantCalculator, data: Path):
    """Of the file that the model was first trained on, among those of the most elements."""
    named = calc.card.training["config"]["data"]["train"]
    files = sorted(data.rglob(Path(named if isinstance(named, str) else named[0]).name))
    structures = (frame.atoms for file in files for frame in read_structures(file))
    known = (atoms for atoms in structures if {*atoms.symbols} <= {*calc.potential.species})
    return max(known, key=lambda atoms: (len({*atoms.symbols}), len(atoms))).copy()


def turn(atoms, moves) -> float:
    """Seconds of one step: neighbour list, energy and forces."""
    steps, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < SECONDS:
        atoms.positions, steps = moves[steps % len(moves)], steps + 1
        atoms.get_forces()
    return passed / steps


def main(data: str, file: str, *names: str) -> None:
    rng, runs, found = np.random.default_rng(0), {}, {}
    for path in sorted({shipped_models()[name] for name in names or shipped_models()}):
        calc = EquivariantCalculator(path, preset="md")
        atoms = largest_structure(calc, Path(data))
        atoms.calc = calc
        moves = [atoms.positions + rng.normal(scale=MOVES, size=atoms.positions.shape) for _ in range(10)]
        turn(atoms, moves)  # the first compiles it and compares with the eager model
        runs[path.stem] = (atoms, moves, [])
    for atoms, moves, seconds in [*runs.values()] * ROUNDS:
        seconds.append(turn(atoms, moves))
    for name, (atoms, _, seconds) in runs.items():
        cost = {"atoms": len(atoms), "microseconds_per_atom": round(median(seconds) / len(atoms) * 1e6, 1)}
        found[name] = {"structure": atoms.get_chemical_formula(), **cost, "compiled": atoms.calc.is_fast}
    print(json.dumps(found, indent=1))
    Path(file).write_text(json.dumps({"machine": machine(), "models": found}, indent=1) + "\n", encoding="utf-8")


torch.set_num_threads(1)
main(*sys.argv[1:])
