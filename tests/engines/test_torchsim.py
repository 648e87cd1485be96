"""The model for TorchSim: what it returns from a state, and TorchSim's own checks of it where it is installed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from ase_equivariant import EquivariantCalculator, Potential, PotentialConfig
from ase_equivariant.architectures import NequIPConfig
from ase_equivariant.engines.batch import BatchEvaluator
from ase_equivariant.engines.torchsim import BatchedForward, torchsim_model


@pytest.fixture(scope="module")
def potential():
    """Knows the elements of TorchSim's checks."""
    torch.manual_seed(3)
    network = NequIPConfig(
        species=("H", "C", "Mg", "Si", "Fe"),
        cutoff=3.5,
        num_layers=2,
        l_max=1,
        irreps_hidden="4x0e+4x1o",
        radial_hidden=(8,),
        avg_num_neighbors=12.0,
    )
    return Potential(PotentialConfig(architecture=network)).requires_grad_(False)


@pytest.fixture(scope="module")
def torch_sim():
    return pytest.importorskip("torch_sim", reason="TorchSim is not installed (extra torchsim)")


def systems():
    silicon, iron = bulk("Si"), bulk("Fe", cubic=True) * (2, 1, 1)
    for seed, atoms in enumerate((silicon, iron)):
        atoms.rattle(0.05, seed=seed)
    silicon.set_cell(silicon.cell.array @ np.diag([1.02, 1.0, 0.97]) + 0.05, scale_atoms=True)  # no symmetric matrix
    return [silicon, iron]


def state_of(atoms, **changes):
    """A TorchSim state by its documentation: lattice vectors are columns."""
    values = {
        "positions": torch.tensor(np.concatenate([a.positions for a in atoms])),
        "cell": torch.tensor(np.stack([a.cell.array.T for a in atoms])),
        "atomic_numbers": torch.tensor(np.concatenate([a.numbers for a in atoms])),
        "system_idx": torch.repeat_interleave(torch.arange(len(atoms)), torch.tensor([len(a) for a in atoms])),
        "pbc": torch.tensor(atoms[0].pbc),
    }
    return values | changes


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
@pytest.mark.parametrize("state_dtype", [torch.float64, torch.float32])
def test_a_batch_is_what_the_calculator_says_one_by_one(potential, kind, state_dtype):
    atoms = systems()
    forward = BatchedForward(BatchEvaluator(potential), state_dtype, stress=True).forward
    result = forward(kind(**state_of(atoms)))
    expected = {"energy": [], "forces": [], "stress": []}
    for a in atoms:
        a.calc = EquivariantCalculator(potential)
        expected["energy"].append(a.get_potential_energy())
        expected["forces"].extend(a.get_forces())
        expected["stress"].append(a.get_stress(voigt=False))
    bound = 1e-10 if state_dtype == torch.float64 else 1e-5
    for name, values in expected.items():
        assert result[name].dtype == state_dtype
        np.testing.assert_allclose(result[name], np.array(values), atol=bound, rtol=bound, err_msg=name)


def test_a_molecule_has_no_stress(potential):
    water = molecule("C2H6")
    result = BatchedForward(BatchEvaluator(potential), torch.float64, stress=True).forward(
        state_of([water], pbc=torch.tensor(False))
    )
    assert not result["stress"].any()
    assert "stress" not in BatchedForward(BatchEvaluator(potential), torch.float64, stress=False).forward(
        state_of([water])
    )


def test_the_place_of_a_bad_structure_is_said(potential):
    good, bad = systems()[0], bulk("Si")
    bad.positions[1] = bad.positions[0]
    with pytest.raises(ValueError, match=r"structure 1 of 2: atoms 0 and 1 are at the same position"):
        BatchEvaluator(potential)([good, bad])
    unknown = r"structure 1 of 2: this model does not know Cu: it was made for "
    for fast in (True, False):
        with pytest.raises(ValueError, match=unknown):
            BatchEvaluator(potential, fast=fast)([good, bulk("Cu")])


def test_what_is_no_batch_is_refused(potential):
    evaluate = BatchEvaluator(potential)
    with pytest.raises(TypeError, match=r"a batch is a sequence of structures: give \[atoms\] for one Atoms object"):
        evaluate(bulk("Si"))
    with pytest.raises(ValueError, match="there is no structure in the batch"):
        evaluate([])


def test_neighbour_lists_are_reused_and_never_stale(potential):
    evaluator = BatchEvaluator(potential, skin=0.5)
    first, second = systems()
    evaluator([first, second])
    first.positions += 0.01 * np.sin(np.arange(3 * len(first))).reshape(-1, 3)
    moved = evaluator([first, second])
    swapped = evaluator([second, first])
    fresh = BatchEvaluator(potential, skin=0.0)([first, second])
    torch.testing.assert_close(moved["energy"], fresh["energy"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(swapped["energy"], fresh["energy"].flip(0), rtol=1e-12, atol=1e-12)
    assert evaluator._neighbors[0].statistics.reuses == 1


def test_without_torchsim_the_package_is_named(potential, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_sim.models.interface", None)
    torchsim_model.__globals__["_model_class"].cache_clear()
    with pytest.raises(ImportError, match=r"torch-sim-atomistic cannot be imported .*ase-equivariant\[torchsim\]"):
        torchsim_model(potential)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torchsim_s_own_checks_pass(torch_sim, potential, dtype):
    from torch_sim.models.interface import ModelInterface, validate_model_outputs

    model = torchsim_model(potential, dtype=dtype)
    assert isinstance(model, ModelInterface)
    validate_model_outputs(model, torch.device("cpu"), torch.float64)


def test_torchsim_evaluates_and_moves_a_batch(torch_sim):
    model = torchsim_model("si")
    atoms = [bulk("Si", cubic=True) for _ in range(3)]
    for seed, a in enumerate(atoms):
        a.rattle(0.05, seed=seed)
    static = torch_sim.static(system=atoms, model=model)
    single = atoms[1].copy()
    single.calc = EquivariantCalculator("si")
    assert float(static[1]["potential_energy"]) == pytest.approx(single.get_potential_energy(), abs=1e-8)
    integrators = getattr(torch_sim, "Integrator", None) or torch_sim.integrators  # from 0.4, before
    moved = torch_sim.integrate(
        system=atoms, model=model, integrator=integrators.nvt_langevin, n_steps=20, temperature=600, timestep=0.001
    )
    assert moved.n_systems == 3
    for energy, atoms_now, atoms_then in zip(moved.energy, moved.to_atoms(), atoms, strict=True):
        assert np.abs(atoms_now.positions - atoms_then.positions).max() > 0.02
        atoms_now.calc = single.calc
        assert float(energy) == pytest.approx(atoms_now.get_potential_energy(), abs=1e-8)
