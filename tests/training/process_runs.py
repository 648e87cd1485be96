"""Runs of several processes for the tests: the command as a user gives it, and what it leaves."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import torch
from ase import Atoms
from ase.build import make_supercell
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from emt_data import emt_atoms

CONFIG = """
[data]
train = "{train}"
validation = 4
[model.architecture]
cutoff = 3.5
num_layers = 2
l_max = 1
irreps_hidden = "8x0e+8x1o"
num_radial = 4
radial_hidden = [8]
[optimizer]
lr = 0.01
[loss.energy]
kind = "huber"
[loss.forces]
kind = "norm"
[loss.stress]
weight = 10.0
[run]
folder = "{folder}"
dtype = "float64"
max_epochs = 4
batch_size = 4
threads = 1
ema_decay = 0.9
"""

# Read-outs that not all structures have labels of are evaluated by autograd.
CHARGES = """
[[model.readouts]]
kind = "charges"
"""


def uneven_atoms(count=17):
    """Crystals of 4, 8 and 12 atoms and a lone one, with EMT's labels, some missing; charges of half."""
    structures = []
    for k, small in enumerate(emt_atoms(count - 1)):
        atoms = make_supercell(small, np.diag([1, 1, 1 + k % 3]))
        atoms.positions += 0.05 * np.random.default_rng(k).normal(size=(len(atoms), 3))
        atoms.calc = EMT()
        names = [
            name for m, name in enumerate(("energy", "forces", "stress")) if (k + m) % 5 or (name == "energy" and k)
        ]
        labels = {name: atoms.calc.get_property(name, atoms) for name in names}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        if k % 2 == 0:
            charges = np.random.default_rng(k).normal(size=len(atoms))
            atoms.arrays["q"] = charges - charges.mean()
        structures.append(atoms)
    lone = Atoms("Cu", positions=[[0, 0, 0]])
    lone.calc = SinglePointCalculator(lone, energy=3.5)
    return [*structures, lone]


def write_config(folder, name="run", text=""):
    """A configuration of a run in ``folder / name``, with data beside it."""
    data = folder / "uneven.xyz"
    if not data.exists():
        write(data, uneven_atoms())
    path = folder / f"{name}.toml"
    path.write_text(CONFIG.format(train=data, folder=folder / name) + text)
    return path


TRAIN = (sys.executable, "-m", "ase_equivariant.cli.main", "train")


def start(config, *settings, command=TRAIN, environment=None):
    """The command in a process of its own."""
    command = [*command, str(config)]
    for setting in settings:
        command += ["--set", setting]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def finish(process, status=0, timeout=600):
    """Its output, once it has ended with the right status."""
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == status, output
    return output


def checkpoint(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


def difference(found, expected):
    """Largest deviation of tensors and numbers of two checkpoints, relative to one or the size of the tensor."""
    if isinstance(expected, torch.Tensor):
        size = max(1.0, float(expected.double().abs().max())) if expected.numel() else 1.0
        return float((found.double() - expected.double()).abs().max()) / size if expected.numel() else 0.0
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        return max((difference(found[key], value) for key, value in expected.items()), default=0.0)
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        return max((difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    if isinstance(expected, float):
        return abs(found - expected) / max(1.0, abs(expected))
    assert found == expected
    return 0.0


def same_run(found, expected):
    """Deviation of all that decides the rest of two runs: weights, averages, optimizer, loss, best so far."""
    names = ("model", "optimizer", "ema", "schedule", "epoch", "batches_done", "steps_done", "loss_sum", "best")
    a, b = checkpoint(found), checkpoint(expected)
    return difference({k: a[k] for k in names}, {k: b[k] for k in names})
