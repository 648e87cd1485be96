"""What is done with a NequIP model can be done with one of geometric vector perceptrons."""

import copy
import json
import pickle
import warnings

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write
from typer.testing import CliRunner

from ase_equivariant import EquivariantCalculator, ModelCard, Potential, PotentialConfig, load_model, save_model
from ase_equivariant.cli.main import app
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.frozen import FrozenPotential, NotFreezableError
from ase_equivariant.testing import assert_derivatives

SMALL = {"name": "gvp", "num_layers": 2, "num_scalars": 6, "num_vectors": 4, "edge_scalars": 4, "num_radial": 4}


@pytest.fixture(scope="module")
def gvp():
    torch.manual_seed(3)
    network = {"species": ["H", "C", "O"], "cutoff": 3.5, "avg_num_neighbors": 8.0, **SMALL}
    potential = Potential(PotentialConfig.parse({"architecture": network}))
    potential.scaling.set(scale=[0.5, 0.5, 0.5], shift=[-13.6, -1027.6, -2041.8])
    return potential.requires_grad_(False)


@pytest.fixture(scope="module")
def gvp_file(gvp, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "gvp.safetensors"
    save_model(path, gvp, ModelCard(name="gvp", license="MIT"))
    return path


def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_file_gives_the_same_model_back(gvp, gvp_file):
    loaded = load_model(gvp_file).potential
    assert loaded.config == gvp.config
    graph = atoms_to_graph(ethanol(), 3.5)
    assert torch.equal(loaded(graph)["forces"], gvp(graph)["forces"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_calculator_is_quiet_and_right(gvp, gvp_file, dtype, check):
    atoms = ethanol()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.calc = EquivariantCalculator(gvp_file, dtype=dtype)
        found = atoms.get_forces()
    expected = gvp(atoms_to_graph(atoms, 3.5))["forces"].numpy()
    check(f"calculator with gvp, {dtype}", float(np.abs(found - expected).max()), 1e-4 if dtype == "float32" else 1e-9)
    assert not atoms.calc.is_fast
    for other in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        np.testing.assert_array_equal(other.get_forces(ethanol()), found)
    if dtype == "float64":
        check("calculator with gvp: finite differences", assert_derivatives(atoms.calc, ethanol()), 1e-6)


@pytest.mark.skipif(native.best_level() < 0, reason="no compiled kernels: another reason is given first")
def test_compiled_evaluation_says_why_not(gvp):
    with pytest.raises(NotFreezableError, match="there is no compiled code for GVPNetwork"):
        FrozenPotential(gvp)
    with pytest.raises(ValueError, match="fast=True is not possible, there is no compiled code for GVPNetwork: leave"):
        EquivariantCalculator(gvp, fast=True)
    calc = EquivariantCalculator(gvp)
    calc.get_forces(ethanol())
    with pytest.raises(ValueError, match=r"evaluates its model eagerly \(there is no compiled code for GVPNetwork\)"):
        calc.verify()


def test_commands(gvp_file, tmp_path):
    assert "gvp, 2 layers, 6 scalars, 4 vectors" in " ".join(run("info", gvp_file).split())
    assert json.loads(run("info", gvp_file, "--json"))["config"]["architecture"]["name"] == "gvp"
    write(tmp_path / "ethanol.xyz", ethanol())
    run("relax", gvp_file, tmp_path / "ethanol.xyz", "--output-dir", tmp_path, "--steps", 2, "--fmax", 1000)
    run("md", gvp_file, tmp_path / "ethanol.xyz", "--output-dir", tmp_path, "--steps", 5, "--timestep", 0.1)
    run("models", "info", gvp_file)
