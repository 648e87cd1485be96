"""The GVP network by a transcription in loops, and where it must be smooth."""

from __future__ import annotations

import gvp_reference
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from ase_equivariant.architectures import GVPConfig, GVPNetwork
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.testing import TEST_SYSTEMS, assert_equivariant

CUTOFF = 3.5
SETTINGS = {
    "two layers": {"num_layers": 2, "message_depth": 2},
    "vectors out": {"num_layers": 3, "message_depth": 3, "vectors_out": 2, "edge_vectors": 2},
    "as many out as inside": {"num_layers": 2, "message_depth": 1, "vectors_out": 3},
    "one layer": {"num_layers": 1, "vectors_out": 1, "polynomial_p": 3.0},
}


def config(**settings):
    small = {"num_scalars": 4, "num_vectors": 3, "edge_scalars": 3, "num_radial": 4, "avg_num_neighbors": 7.0}
    return GVPConfig.parse({"species": ["H", "C", "O", "Si"], "cutoff": CUTOFF, **small, **settings})


def made(**settings):
    network = GVPNetwork(config(**settings))
    network.basis.wave_numbers.data *= torch.linspace(0.9, 1.1, 4, dtype=torch.float64)
    for name, parameter in network.named_parameters():
        if ".b_" in name:
            parameter.data.uniform_(-0.5, 0.5)
    return network


def graph_of(atoms):
    graph = atoms_to_graph(atoms, CUTOFF)
    return torch.tensor([{1: 0, 6: 1, 8: 2, 14: 3}[int(z)] for z in graph.atomic_numbers]), graph


@pytest.mark.parametrize("system", ["molecule", "mixed", "atom"])
@pytest.mark.parametrize("name", SETTINGS)
def test_network_is_its_transcription(name, system, check):
    network = made(**SETTINGS[name])
    species, graph = graph_of(TEST_SYSTEMS[system]())
    found = network(species, graph.edge_index, graph.edge_vectors).detach().numpy()
    s, v = gvp_reference.network(network, species.numpy(), graph.edge_index.numpy(), graph.edge_vectors.numpy())
    expected = np.concatenate([s, v.transpose(0, 2, 1).reshape(len(s), -1)], axis=1)
    check("GVP network = its transcription", np.abs(found - expected).max() / np.abs(expected).max(), 1e-12)


def test_features_are_scalars_and_polar_vectors(check):
    network = made(vectors_out=2)
    assert str(network.irreps_out) == "4x0e+2x1o"
    assert str(made().irreps_out) == "4x0e"
    species, graph = graph_of(TEST_SYSTEMS["molecule"]())
    i, j = graph.edge_index

    def features(_, positions):
        return network(species, graph.edge_index, positions[j] - positions[i])

    def dipole(_, positions):
        return features(_, positions)[:, 4:].sum(dim=0, keepdim=True)

    positions = torch.tensor(TEST_SYSTEMS["molecule"]().positions)
    assert dipole(None, positions).abs().max() > 1e-3
    options = {"positions": positions, "e3nn_layout": False}
    check("GVP network: equivariance", assert_equivariant(features, "0e", network.irreps_out, **options), 1e-10)
    check("GVP network: sum of vectors", assert_equivariant(dipole, "0e", "2x1o", **options), 1e-10)


def test_order_of_atoms_and_edges_does_not_matter(check):
    """Among atoms that share their neighbours."""
    network = made(vectors_out=2).requires_grad_(False)
    species, graph = graph_of(TEST_SYSTEMS["tiny"]() * (2, 1, 1))
    expected = network(species, graph.edge_index, graph.edge_vectors)
    edges = torch.randperm(graph.num_edges)
    found = network(species, graph.edge_index[:, edges], graph.edge_vectors[edges])
    check("permuted edges", float((found - expected).abs().max() / expected.abs().max()), 1e-12)
    atoms = torch.randperm(len(species))
    found = network(species[atoms], atoms.argsort()[graph.edge_index], graph.edge_vectors)
    check("permuted atoms", float((found - expected[atoms]).abs().max() / expected.abs().max()), 1e-12)


def test_messages_vanish_at_the_cutoff_with_two_derivatives():
    """As the cutoff's third power: each tenth of the distance to the cutoff divides by a thousand."""
    network = made(vectors_out=2).requires_grad_(False)
    alone = network(torch.tensor([0]), torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.float64))
    changes = []
    for gap in (1e-1, 1e-2, 1e-3):
        vector = (CUTOFF - gap) * torch.tensor([[0.48, -0.6, 0.64]], dtype=torch.float64)
        changes.append(float((network(torch.tensor([0, 1]), torch.tensor([[0], [1]]), vector)[0] - alone[0]).norm()))
    assert changes[0] > 1e-6
    assert changes[1] < 2e-3 * changes[0]
    assert changes[2] < 2e-3 * changes[1]


def stiffening(smoothing):
    """Relative change of a restoring force constant of a crystal with the displacement, from 0.0001 to 0.001 Å."""
    torch.manual_seed(1)
    network = config(num_scalars=16, num_vectors=8, avg_num_neighbors=28.0, smoothing=smoothing)
    potential = Potential(PotentialConfig(architecture=network))
    constants = []
    for step in (1e-4, 1e-3):
        crystal = bulk("Si", cubic=True)
        crystal.positions[0, 0] += step
        constants.append(float(potential(atoms_to_graph(crystal, CUTOFF))["forces"][0, 0]) / step)
    assert abs(constants[0]) > 1e-2
    return abs(constants[1] / constants[0] - 1)


def test_a_crystal_is_not_on_the_tip_of_a_cone(check):
    """By symmetry all vectors vanish there; restoring forces are linear in small displacements all the same."""
    check("force constants of a crystal", stiffening(GVPConfig.model_fields["smoothing"].default), 1e-4)
    assert stiffening(1e-4) > 0.05  # the authors' guard, √1e-8


def test_a_lone_atom_has_finite_gradients_of_its_parameters():
    potential = Potential(PotentialConfig(architecture=config()))
    atom = atoms_to_graph(Atoms("C"), CUTOFF)
    found = potential(atom, create_graph=True)
    loss = found["energy"].sum() + found["forces"].square().sum()
    gradients = torch.autograd.grad(loss, list(potential.parameters()), allow_unused=True, materialize_grads=True)
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert found["forces"].eq(0).all()


@pytest.mark.parametrize("settings", [{}, {"vectors_out": 2}])
def test_every_parameter_is_used(settings):
    """What the last layer would make for nobody to read is not there."""
    network = made(**settings)
    species, graph = graph_of(TEST_SYSTEMS["molecule"]())
    features = network(species, graph.edge_index, graph.edge_vectors)
    for name, parameter in network.named_parameters():
        (gradient,) = torch.autograd.grad(features.square().sum(), parameter, retain_graph=True)
        assert parameter.numel(), name
        assert gradient.abs().max() > 0, name
