"""One training step on a batch, ours and nequip's: the network of the benchmark, energy and forces, Adam."""

import numpy as np
from systems import system


def structures(name, count):
    """Copies of a system, each displaced in its own way."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        atoms = system(name)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        yield atoms


def ours(name, count, potential):
    """A function that takes one step, and the number of atoms."""
    import torch

    from ase_equivariant.training.dataset import Batch, to_batch
    from ase_equivariant.training.evaluator import Evaluator
    from ase_equivariant.training.fit_config import LossConfig
    from ase_equivariant.training.frames import Frame
    from ase_equivariant.training.loss import Loss, compute_errors

    potential = potential.to(torch.float32).requires_grad_(True)
    frames = [Frame(atoms, 0.0, np.zeros((len(atoms), 3))) for atoms in structures(name, count)]
    batch = Batch.collate([to_batch(frame, potential.cutoff, torch.float32) for frame in frames])
    optimizer = torch.optim.Adam(potential.parameters(), lr=1e-4, fused=True)
    evaluator, loss = Evaluator(potential, compiled=True), Loss(LossConfig())

    def step():
        optimizer.zero_grad()
        errors = compute_errors(evaluator(batch, forces=True, stress=False), batch)
        loss.total(loss.sums(errors, batch)).backward()
        optimizer.step()

    return step, batch.graph.num_atoms


def nequip(name, count, model, species):
    """As :func:`ours`; ``model`` in its training mode."""
    import torch
    from nequip.data import AtomicDataDict, from_ase
    from nequip.integrations.utils import basic_transforms

    transforms = basic_transforms(model.metadata, 5.0, species, {symbol: symbol for symbol in species})
    graphs = []
    for atoms in structures(name, count):
        data = from_ase(atoms)
        for transform in transforms:
            data = transform(data)
        graphs.append(data)
    batch = AtomicDataDict.batched_from_list(graphs)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    atoms = len(batch["pos"])

    def step():
        optimizer.zero_grad()
        out = model(batch.copy())
        energy = (out["total_energy"].flatten() * count / atoms).square().mean()
        (energy + out["forces"].square().mean()).backward()
        optimizer.step()

    return step, atoms
