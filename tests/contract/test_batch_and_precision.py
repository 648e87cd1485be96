"""Batches, precision and repetition do not change what a potential says."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from cases import CASES, EVALUATED, ask, potential, prediction, relative, system

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.potential import Potential
from ase_equivariant.testing import TEST_SYSTEMS

every_case = pytest.mark.parametrize("case", CASES)


@pytest.mark.parametrize("case", EVALUATED)
def test_batch_is_its_structures(case, check):
    """One batch of all systems at once, of one atom and many, with edges and without, periodic and not."""
    model = potential(case)
    together = model(
        AtomicGraph.collate([atoms_to_graph(make(), model.cutoff) for make in TEST_SYSTEMS.values()]), stress=True
    )
    singles = [prediction(case, name) for name in TEST_SYSTEMS]
    for key in ("energy", "node_energies", "forces"):
        check(f"batched = single: {key}", relative(together[key], torch.cat([one[key] for one in singles])), 1e-12)
    for k, (name, one) in enumerate(zip(TEST_SYSTEMS, singles, strict=True)):
        if system(name).cell.rank == 3:
            check("batched = single: stress", relative(together["stress"][k : k + 1], one["stress"]), 1e-12)
        else:
            assert together["stress"][k].isnan().all()


@every_case
def test_float32_is_close(case, check):
    single = deepcopy(potential(case)).float()
    for name in TEST_SYSTEMS:
        found, exact = ask(single, system(name)), prediction(case, name)
        assert (found["energy"].dtype, found["forces"].dtype) == (torch.float64, torch.float32)
        for key in exact:
            check(f"float32 = float64: {key}", relative(found[key], exact[key], floor=0.1), 1e-4)


@every_case
def test_to_float32_and_back_keeps_the_constants(case):
    """Only the weights are rounded: with the old ones put back, every bit is as it was."""
    model = potential(case)
    returned = deepcopy(model).float().double()
    returned.load_state_dict(model.state_dict())
    for name in ("mixed", "molecule"):
        found, expected = ask(returned, system(name)), prediction(case, name)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert torch.equal(returned.float().scaling.shift, model.scaling.shift)


@every_case
def test_same_seed_same_potential_same_bits(case):
    torch.manual_seed(3)
    first = Potential(CASES[case])
    torch.manual_seed(3)
    second = Potential(CASES[case])
    for one, two in ((first, first), (first, second)):
        a, b = ask(one, system("mixed")), ask(two, system("mixed"))
        assert all(torch.equal(a[key], b[key]) for key in a)


@every_case
def test_forces_are_there_where_gradients_are_switched_off(case):
    """As in validation."""
    with torch.no_grad():
        found = ask(potential(case), system("mixed"))
    assert all(torch.equal(found[key], value) for key, value in prediction(case, "mixed").items())


@pytest.mark.parametrize("case", EVALUATED)
def test_prediction_holds_what_was_asked_for(case):
    graph = atoms_to_graph(system("mixed"), potential(case).cutoff)
    model = potential(case)
    assert set(model(graph, forces=False)) == {"energy", "node_energies"}
    assert set(model(graph)) == {"energy", "node_energies", "forces"}
    assert set(model(graph, forces=False, stress=True)) == {
        "energy",
        "node_energies",
        "virial",
        "node_virials",
        "stress",
    }
    assert not any(value.requires_grad for value in model(graph, stress=True).values())
