"""Small labelled data that the tests make for themselves: effective-medium theory on copper-gold crystals."""

from __future__ import annotations

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.frames import Frame

SMALL = {
    "cutoff": 3.5,
    "num_layers": 2,
    "l_max": 1,
    "irreps_hidden": "8x0e+8x1o",
    "num_radial": 4,
    "radial_hidden": [8],
}


def emt_atoms(count=12, seed=0):
    """Strained, rattled Cu₂Au₂ and Cu₃Au cells with EMT's energy, forces and stress attached."""
    rng = np.random.default_rng(seed)
    structures = []
    for k in range(count):
        atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
        atoms.symbols[: 1 + k % 2] = "Au"
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += 0.1 * rng.normal(size=(4, 3))
        atoms.calc = EMT()
        labels = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        structures.append(atoms)
    return structures


def emt_frames(count=12, seed=0):
    """The same as frames."""
    frames = []
    for atoms in emt_atoms(count, seed):
        bare = atoms.copy()
        frames.append(Frame(bare, atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)))
    return frames


def small_config(train, folder, **sections):
    """A configuration that trains in seconds."""
    values = {
        "data": {"train": str(train), "validation": 4, **sections.pop("data", {})},
        "model": {"architecture": {**SMALL, **sections.pop("architecture", {})}},
        "run": {
            "folder": str(folder),
            "max_epochs": 4,
            "batch_size": 4,
            "threads": 1,
            "ema_decay": 0.9,
            **sections.pop("run", {}),
        },
        **sections,
    }
    return TrainConfig.parse(values)
