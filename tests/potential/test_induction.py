"""Atoms that polarize each other: two of them by formula, many by solving for all dipoles at once."""

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.units import Bohr, Hartree

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential.induction import Induction

CUTOFF = 8.0


def total(induction, atoms, alpha, species=None):
    graph = atoms_to_graph(atoms, CUTOFF)
    species = torch.zeros(len(atoms), dtype=torch.int64) if species is None else species
    with torch.no_grad():
        return induction(alpha, species, graph).sum(0).numpy()


def test_two_atoms_by_silberstein_s_formula(check):
    """Along the axis 2α (1 + 2x + 4x²), across it 2α (1 − x + x²), x = C α f/r³, where nothing is damped."""
    induction = Induction(1, CUTOFF).double()
    induction.log_volume.data.fill_(-20.0)
    r, volume = 4.0, 1.4  # Å, Å³
    x = volume / r**3 * float(induction.cutoff(torch.tensor(r, dtype=torch.float64)))
    alpha = volume / (Hartree * Bohr)
    found = total(
        induction, Atoms("Ar2", [[0, 0, 0], [0, 0, r]]), alpha * torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    )
    expected = 2 * alpha * np.diag([1 - x + x**2, 1 - x + x**2, 1 + 2 * x + 4 * x**2])
    check("polarizability of a pair (e²·Å²/eV)", np.abs(found - expected).max(), 1e-14)


def test_many_atoms_by_solving_for_all_dipoles(check):
    """What is left out, is of third order: with a tenth of the interaction, a thousandth of the deviation."""
    atoms = molecule("CH3CH2OH")
    generator = torch.Generator().manual_seed(3)
    n, deviations = len(atoms), []
    root = torch.randn(n, 3, 3, dtype=torch.float64, generator=generator)
    species = torch.as_tensor(atoms.numbers % 3)
    induction = Induction(3, CUTOFF).double()
    graph = atoms_to_graph(atoms, CUTOFF)
    i, j = graph.edge_index
    with torch.no_grad():
        tensors = induction.tensors(graph.edge_vectors, species[i], species[j])
    dense = torch.zeros(n, 3, n, 3, dtype=torch.float64)
    dense[i, :, j, :] = tensors
    for size in (1e-2, 1e-3):
        alpha = size * (root @ root.mT)
        inverse = torch.block_diag(*torch.linalg.inv(alpha))
        exact = torch.linalg.inv(inverse - dense.reshape(3 * n, 3 * n)).reshape(n, 3, n, 3).sum((0, 2))
        found = total(induction, atoms, alpha, species)
        deviations.append(np.abs(found - exact.numpy()).max() / size)
        check(f"asymmetry, polarizabilities of {size}", np.abs(found - found.T).max() / size, 1e-13)
    assert 500 < deviations[0] / deviations[1] < 2000


def test_fields_are_damped_where_atoms_overlap_and_end_at_the_cutoff(check):
    induction = Induction(1, CUTOFF).double()
    zero = torch.zeros(1, dtype=torch.int64)

    def size(r):
        with torch.no_grad():
            return float(induction.tensors(torch.tensor([[0.0, 0.0, r]], dtype=torch.float64), zero, zero).abs().max())

    undamped = 2 * Hartree * Bohr
    assert size(0.1) < 0.05 * undamped / 0.1**3
    assert abs(size(3.0) * 3.0**3 / undamped / float(induction.cutoff(torch.tensor(3.0))) - 1) < 1e-4
    check("field at the cutoff", size(CUTOFF - 1e-4), 1e-9)
