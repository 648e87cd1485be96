"""Forces, virials and stress from edge gradients, for a pair potential that ASE has too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from ase.stress import full_3x3_to_voigt_6_stress

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential.derivatives import (
    edge_gradients,
    forces_from_edges,
    node_virials_from_edges,
    stress_from_virial,
    virial_from_nodes,
)
from ase_equivariant.testing import TEST_SYSTEMS

SIGMA, EPSILON, CUTOFF = 1.9, 0.4, 4.3


def lennard_jones(vectors):
    """Half of 4ε((σ/r)¹² − (σ/r)⁶) for every directed edge; shifted as ASE does, which no derivative sees."""
    x = (SIGMA / vectors.norm(dim=1)) ** 6
    return 0.5 * 4 * EPSILON * (x * x - x)


@pytest.mark.parametrize("name", ["molecule", "bulk", "skewed", "slab", "tiny", "mixed", "atom", "edgeless"])
def test_against_ase(name, check):
    atoms = TEST_SYSTEMS[name]()
    atoms.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF)
    graph = atoms_to_graph(atoms, CUTOFF)
    vectors = graph.edge_vectors.requires_grad_()
    gradients = edge_gradients(lennard_jones(vectors), vectors, create_graph=False)

    def compare(what, found, expected):
        scale = max(np.abs(expected).max(), 1e-3)
        check(f"Lennard-Jones = ASE's: {what}", float(np.abs(found - expected).max() / scale), 1e-12)

    compare("forces", forces_from_edges(gradients, graph).numpy(), atoms.get_forces())
    if atoms.cell.rank < 3:
        return
    node_virials = node_virials_from_edges(gradients, graph).detach()
    stress = stress_from_virial(virial_from_nodes(node_virials, graph), graph.volume)[0]
    compare("stress", full_3x3_to_voigt_6_stress(stress.numpy()), atoms.get_stress())
    stresses = full_3x3_to_voigt_6_stress(-node_virials.numpy() / atoms.get_volume())
    compare("stresses of atoms", stresses, atoms.get_stresses())


def test_stress_of_pulling_bonds_is_positive():
    """Tensile positive: bonds that pull make a crystal want to shrink."""
    graph = atoms_to_graph(TEST_SYSTEMS["bulk"](), CUTOFF)
    vectors = graph.edge_vectors.requires_grad_()
    attraction = edge_gradients(vectors.norm(dim=1).square(), vectors, create_graph=False)
    virial = virial_from_nodes(node_virials_from_edges(attraction, graph), graph)
    assert stress_from_virial(virial, graph.volume)[0].diagonal().min() > 0


def test_stress_without_volume_is_nan():
    virial = torch.ones(2, 3, 3, dtype=torch.float64)
    stress = stress_from_virial(virial, torch.tensor([0.0, 2.0], dtype=torch.float64))
    assert stress[0].isnan().all()
    assert stress[1].eq(-0.5).all()


def test_energy_without_edges_has_zero_gradients():
    vectors = torch.zeros(0, 3, requires_grad=True)
    assert edge_gradients(torch.zeros(1), vectors, create_graph=False).shape == (0, 3)
