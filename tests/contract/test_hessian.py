"""Second derivatives of the energy and first ones of the polarizability against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import potential, random_rotation, relative, system

from ase_equivariant.architectures import NequIPConfig
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.potential import Potential, PotentialConfig
from ase_equivariant.potential.response import hessian, polarizability_derivatives

STEP = 3e-4


def central(function, atoms):
    """Derivatives by every coordinate, the last axis; of fourth order in the step."""
    columns = []
    for k in range(3 * len(atoms)):
        values = []
        for shift in (-2, -1, 1, 2):
            moved = atoms.copy()
            moved.positions.reshape(-1)[k] += shift * STEP
            values.append(function(moved))
        columns.append((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize(
    ("case", "name"),
    [*((case, "molecule") for case in ("nequip defaults", "gvp defaults", "rms norm", "zbl")), ("l=1", "bulk")],
)
def test_it_is_the_derivative_of_the_forces(case, name, check):
    model, atoms = potential(case), system(name)
    found = hessian(model, atoms_to_graph(atoms, model.cutoff)).numpy()
    expected = -central(lambda a: model(atoms_to_graph(a, model.cutoff))["forces"].numpy().ravel(), atoms)
    check("Hessian equal to finite differences of forces", relative(found, expected), 1e-6)
    np.testing.assert_array_equal(found, found.T)
    # Moving everything together costs nothing.
    sums = found.reshape(-1, len(atoms), 3).sum(axis=1)
    check("rows of the Hessian sum to zero", np.abs(sums).max() / np.abs(found).max(), 1e-12)


def test_it_does_not_depend_on_the_batches():
    model = potential("nequip defaults")
    graph = atoms_to_graph(system("molecule"), model.cutoff)
    one, some, all_at_once = (hessian(model, graph, edges) for edges in (1, 5 * graph.num_edges, 10**9))
    torch.testing.assert_close(one, some, rtol=0, atol=1e-12)
    torch.testing.assert_close(one, all_at_once, rtol=0, atol=1e-12)


def test_it_turns_with_the_atoms(check):
    model, atoms = potential("nequip defaults"), system("molecule")
    rotation = random_rotation(np.random.default_rng(3))
    turned = atoms.copy()
    turned.positions = atoms.positions @ rotation.T
    before, after = (
        hessian(model, atoms_to_graph(a, model.cutoff)).numpy().reshape(len(a), 3, len(a), 3) for a in (atoms, turned)
    )
    check(
        "Hessian turns with the atoms",
        relative(after, np.einsum("ac,bd,icjd->iajb", rotation, rotation, before)),
        1e-10,
    )


def test_atoms_out_of_reach_have_none():
    model = potential("nequip defaults")
    atoms = system("molecule")[:2]
    atoms.positions = [[0, 0, 0], [0, 0, 2 * model.cutoff]]
    assert not hessian(model, atoms_to_graph(atoms, model.cutoff)).any()


def test_one_structure_at_a_time():
    model = potential("nequip defaults")
    graph = atoms_to_graph(system("molecule"), model.cutoff)
    with pytest.raises(ValueError, match="a batch of 2 structures: give one at a time"):
        hessian(model, AtomicGraph.collate([graph, graph]))


def test_derivatives_of_the_polarizability(check):
    network = NequIPConfig(
        species=("H", "C", "O", "Si"),
        cutoff=3.5,
        num_layers=2,
        irreps_hidden="4x0e+3x1o+3x2e",
        radial_hidden=(8,),
        avg_num_neighbors=12.0,
    )
    model = Potential(PotentialConfig(architecture=network, readouts=({"kind": "polarizability", "hidden": (3,)},)))
    model.readouts["polarizability"].scaling.set(scale=[0.3, 0.5, 0.7, 0.9], shift=[1.0, 2.0, 3.0, 4.0])
    atoms = system("molecule")
    found = polarizability_derivatives(model, atoms_to_graph(atoms, model.cutoff)).numpy()
    expected = central(lambda a: model(atoms_to_graph(a, model.cutoff))["polarizability"][0].numpy(), atoms)
    check(
        "derivatives of the polarizability equal to finite differences",
        relative(found, expected.reshape(found.shape)),
        1e-6,
    )
    with pytest.raises(ValueError, match="does not predict a polarizability"):
        polarizability_derivatives(
            potential("nequip defaults"), atoms_to_graph(atoms, potential("nequip defaults").cutoff)
        )
