"""Random rotations."""

import torch

from ase_equivariant.irreps import random_rotation


def test_random_rotations_are_uniform(check):
    """Entries of uniform rotations have the mean 0 and the mean square 1/3."""
    generator = torch.Generator().manual_seed(0)
    rotations = torch.stack([random_rotation(generator) for _ in range(2000)])
    identity = torch.eye(3, dtype=torch.float64)
    check("orthogonal", float((rotations.mT @ rotations - identity).abs().max()), 1e-12)
    check("proper", float((torch.linalg.det(rotations) - 1).abs().max()), 1e-12)
    check("mean", float(rotations.mean(0).abs().max()), 0.06)
    check("mean square", float((rotations.square().mean(0) - 1 / 3).abs().max()), 0.03)
