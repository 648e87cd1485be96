"""Molecules of water and what a small network with read-outs says of them."""

from __future__ import annotations

import numpy as np
import torch
from ase.build import molecule

from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.training.config import TrainConfig

NETWORK = {"cutoff": 4.0, "num_layers": 2, "irreps_hidden": "4x0e+4x1o+4x2e", "num_radial": 4, "radial_hidden": [8]}
READOUTS = [{"kind": "dipole"}, {"kind": "polarizability"}, {"kind": "charges"}]
KEYS = {
    "energy_key": "U", "dipole_key": "mu", "dipole_units": "au", "polarizability_key": "alpha",
    "polarizability_units": "au", "charges_key": "q",
}  # fmt: skip


def make_potential(readouts=READOUTS, seed=5):
    torch.manual_seed(seed)
    architecture = {**NETWORK, "species": ["H", "O"], "avg_num_neighbors": 3.0}
    return Potential(PotentialConfig.parse({"architecture": architecture, "readouts": readouts}))


def water(seed):
    atoms = molecule("H2O")
    atoms.positions += 0.1 * np.random.default_rng(seed).normal(size=(3, 3)) + [4.0, 0.0, -2.0]
    return atoms


def config(labelled, folder, **values):
    given = {
        "data": {"train": str(labelled), "validation": 2, "test": 2, **KEYS},
        "model": {"architecture": NETWORK, "readouts": READOUTS},
        "loss": {"forces": {"weight": 0.0}},
        "run": {"folder": str(folder), "max_epochs": 3, "batch_size": 4, "threads": 1},
    }
    return TrainConfig.parse({**given, **values})
