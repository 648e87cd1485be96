"""The compiled evaluation is compared with the eager model by itself, and given up loudly if it is wrong."""

import copy
import gc
import pickle
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_equivariant import EquivariantCalculator
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.fast_path import FastPath
from ase_equivariant.potential.freeze import NetworkBuilder
from ase_equivariant.potential.verification import neighbourhood, verify

pytestmark = pytest.mark.skipif(native.best_level() < 0, reason="no compiled kernels: there is no C++ compiler")


def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def spoil(calc):
    """Change one weight of the compiled network behind everybody's back, as a miscompiled kernel would."""
    frozen = calc._fast.compiled
    frozen._builder = NetworkBuilder(calc._fast._exact, frozen.dtype, frozen.level)  # not the one that others use, too
    frozen._builder.tables[0][:, :, 0, :] *= 1.001
    frozen._run = native.NetworkRunner(frozen._builder.network, frozen.level, frozen._builder.real)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_are_those_of_the_eager_calculator(small_potential, dtype, check):
    fast, eager = (EquivariantCalculator(small_potential, dtype=dtype, fast=fast) for fast in (True, False))
    assert fast.is_fast
    assert not eager.is_fast
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    for name in ("energy", "energies", "forces", "stress", "stresses"):
        a, b = (np.asarray(calc.get_property(name, atoms)) for calc in (fast, eager))
        check(
            f"fast calculator = eager, {dtype}: {name}",
            float(np.abs(a - b).max()),
            1e-8 if dtype == "float64" else 2e-3,
        )


def test_verify_reports_and_passes(small_potential):
    calc = EquivariantCalculator(small_potential, dtype="float32")
    with pytest.raises(ValueError, match="no structure yet"):
        calc.verify()
    calc.get_forces(ethanol())
    report = calc.verify()
    assert report.passed
    assert report.num_atoms == 9
    assert 0 < report.forces < 1e-4
    assert "on 9 atoms: energies" in str(report)


def test_a_wrong_fast_path_is_found_and_given_up(small_potential):
    calc, eager = (EquivariantCalculator(small_potential, fast=fast) for fast in (True, False))
    spoil(calc)
    with pytest.warns(RuntimeWarning, match="fast evaluation of this model is wrong here"):
        forces = calc.get_forces(ethanol())
    assert not calc.is_fast
    np.testing.assert_array_equal(forces, eager.get_forces(ethanol()))
    with pytest.raises(ValueError, match="evaluates its model eagerly"):
        calc.verify()


def test_new_elements_are_verified_anew(small_potential):
    calc = EquivariantCalculator(small_potential)
    calc.get_forces(ethanol())
    spoil(calc)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calc.get_forces(molecule("CH3CH2OCH3"))  # the same elements: not looked at again
    with pytest.warns(RuntimeWarning, match="is wrong here"):
        calc.get_forces(molecule("H2O"))


def test_a_large_structure_is_verified_on_a_neighbourhood(small_potential):
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    graph = atoms_to_graph(atoms, small_potential.cutoff)
    part = neighbourhood(graph, 100)
    assert part.num_atoms == 100
    assert 200 < part.num_edges < graph.num_edges
    assert bool((part.edge_index[0][1:] >= part.edge_index[0][:-1]).all())
    degree = torch.bincount(part.edge_index[0], minlength=100)
    assert int(degree.max()) == graph.num_edges // graph.num_atoms  # somebody has all its neighbours
    fast = FastPath(small_potential, torch.float64)
    assert verify(fast.for_graph(graph), small_potential, graph, 100).num_atoms == 100
    assert fast.check(graph, None).num_atoms == len(atoms)


def test_copies_of_a_model_have_one_network_between_them(small_potential):
    calc = EquivariantCalculator(small_potential, dtype="float32")
    expected = calc.get_forces(ethanol())
    copies = [
        copy.deepcopy(calc),
        pickle.loads(pickle.dumps(calc)),
        EquivariantCalculator(small_potential, dtype="float32"),
    ]
    network = weakref.ref(calc._fast.compiled._builder)
    del calc  # the others keep it
    for other in copies:
        assert other._fast.compiled._builder is network()
        np.testing.assert_array_equal(other.get_forces(ethanol()), expected)
    assert EquivariantCalculator(small_potential)._fast.compiled._builder is not network(), "another precision"
    changed = copy.deepcopy(small_potential)
    with torch.no_grad():
        next(changed.network.parameters()).mul_(1.5)
    assert EquivariantCalculator(changed, dtype="float32")._fast.compiled._builder is not network(), "other weights"
    del copies, other
    gc.collect()
    assert network() is None


def test_threads_share_a_network(small_potential):
    calculators = [EquivariantCalculator(small_potential) for _ in range(3)]
    structures = [ethanol() for _ in calculators]
    for k, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=k)
    alone = [EquivariantCalculator(small_potential, fast=True).get_forces(atoms) for atoms in structures]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(20):
            together = pool.map(lambda calc, atoms: calc.get_forces(atoms), calculators, structures)
            for found, expected in zip(together, alone, strict=True):
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_pickle_and_deepcopy_keep_the_calculator_fast(small_potential):
    calc = EquivariantCalculator(small_potential)
    expected = calc.get_forces(ethanol())
    for other in (copy.deepcopy(calc), pickle.loads(pickle.dumps(calc))):
        assert other.is_fast
        np.testing.assert_array_equal(other.get_forces(ethanol()), expected)


def test_a_single_atom_verifies_nothing(small_potential):
    calc = EquivariantCalculator(small_potential)
    calc.get_forces(Atoms("C"))
    spoil(calc)
    chain = Atoms("C4", positions=[[0, 0, 0], [1.3, 0.1, 0], [2.5, 0, 0.2], [3.9, 0, 0]])
    with pytest.warns(RuntimeWarning, match="the fast evaluation of this model is wrong here"):
        calc.get_forces(chain)


def test_a_neighbourhood_has_every_element(small_potential):
    slab = bulk("Si", cubic=True) * (3, 3, 3)
    adsorbed = molecule("CH3OH")
    adsorbed.positions += slab.cell.lengths() + np.array([0, 0, 1.5])
    graph = atoms_to_graph(slab + adsorbed, small_potential.cutoff)
    part = neighbourhood(graph, 32)
    assert part.num_atoms == 32
    assert set(part.atomic_numbers.tolist()) == {1, 6, 8, 14}
