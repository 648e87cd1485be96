"""Forces and stress are the derivatives of the energy, to first order and, for training, to second."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from cases import CASES, COMPILED, EVALUATED, WITH_EDGES, WITH_XPLOR, ask, potential, prediction, relative, system

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.testing import TEST_SYSTEMS, assert_derivatives

every_case = pytest.mark.parametrize("case", EVALUATED)
every_system = pytest.mark.parametrize("name", TEST_SYSTEMS)


@every_system
@every_case
def test_finite_differences(case, name, check):
    step = step_of(case)
    violation = assert_derivatives(potential(case), system(name), step=step, num_components=2, seed=seed_of(case, name))
    check("finite differences: forces, stress", violation, 1e-6)


@pytest.mark.parametrize("case", ["l=2", "xplor cutoff"])
def test_finite_differences_of_every_component(case, check):
    check(
        "finite differences: forces, stress",
        assert_derivatives(potential(case), system("mixed"), step=step_of(case)),
        1e-6,
    )


@every_system
@every_case
def test_sums(case, name, check):
    found = prediction(case, name)
    total = found["forces"].sum(dim=0)
    check("forces sum to zero", relative(total, torch.zeros(3), floor=found["forces"].abs().max().clamp(1e-3)), 1e-12)
    energy = float(found["energy"][0])
    check("energies sum to energy", abs(float(found["node_energies"].sum()) - energy) / abs(energy), 1e-14)
    if "stress" in found:
        virial = found["node_virials"].sum(dim=0, keepdim=True)
        check("atomic virials sum to virial", relative(virial, found["virial"]), 1e-12)
        stress = -found["virial"] / system(name).get_volume()
        check("stress is −virial/volume", relative(stress, found["stress"], floor=1e-6), 1e-12)
        check("stress is symmetric", relative(found["stress"].mT, found["stress"]), 0.0)


@every_case
def test_torque_vanishes(case, check):
    """The virial before it is made symmetric is symmetric by itself: energy does not change under rotation."""
    found, atoms = prediction(case, "molecule"), system("molecule")
    torque = torch.linalg.cross(torch.tensor(atoms.positions), found["forces"]).sum(dim=0)
    check("torque vanishes", relative(torque, torch.zeros(3), floor=found["forces"].abs().max()), 1e-10)


@pytest.mark.parametrize("name", ["atom", "edgeless"])
@every_case
def test_isolated_atoms_feel_nothing(case, name, check):
    found = prediction(case, name)
    assert found["forces"].eq(0).all()
    alone = [float(ask(potential(case), atom)["energy"][0]) for atom in map(system(name).__getitem__, slices(name))]
    check("an isolated atom's energy", relative(found["node_energies"], alone), 1e-14)


def slices(name):
    return [slice(k, k + 1) for k in range(len(system(name)))]


@pytest.mark.parametrize("case", CASES)
def test_loss_of_forces_and_stress_has_exact_gradients(case, check):
    """Backward through backward, along a random direction of all parameters, against central differences."""
    model = deepcopy(potential(case)).requires_grad_(True)
    graph = AtomicGraph.collate([atoms_to_graph(system(name), model.cutoff) for name in ("molecule", "tiny", "skewed")])
    generator = torch.Generator().manual_seed(5)
    parameters = list(model.parameters())
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    weights = torch.randn(graph.num_atoms, 3, generator=generator, dtype=torch.float64)

    def loss(create_graph=False):
        found = model(graph, stress=True, create_graph=create_graph)
        return (weights * found["forces"]).sum() + found["virial"].square().sum() + found["energy"].sum()

    gradients = torch.autograd.grad(loss(create_graph=True), parameters, allow_unused=True, materialize_grads=True)
    exact = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    size = sum(float((g * d).abs().sum()) for g, d in zip(gradients, direction, strict=True))
    step, start, values = 1e-4, [p.detach().clone() for p in parameters], {}
    for k in (-3, -2, -1, 1, 2, 3):
        with torch.no_grad():
            for p, p0, d in zip(parameters, start, direction, strict=True):
                p.copy_(p0 + k * step * d)
        values[k] = float(loss())
    pairs = zip((3 / 4, -3 / 20, 1 / 60), (1, 2, 3), strict=True)
    expected = sum(w * (values[k] - values[-k]) for w, k in pairs) / step
    check("second derivatives in parameters", abs(exact - expected) / size, 1e-6)


@pytest.mark.parametrize("name", WITH_EDGES)
def test_forces_are_not_all_zero(name):
    """Comparisons of zeros would prove nothing."""
    for case in CASES:
        found = prediction(case, name)
        assert found["forces"].abs().max() > 1e-4
        assert "stress" not in found or found["stress"].abs().max() > 1e-5


def seed_of(case, name):
    return sum(map(ord, case.removesuffix(COMPILED) + name))


def step_of(case):
    """XPLOR's second derivative jumps at onset and cutoff: no pair may come across one. Smoothed norms bend sharply."""
    if case in WITH_XPLOR:
        return 1e-4
    return 5e-4 if EVALUATED[case].architecture.name == "gvp" else 1e-3
