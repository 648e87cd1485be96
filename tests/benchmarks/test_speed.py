"""Times of one evaluation, with pytest-benchmark: ``pytest -m slow tests/benchmarks``."""

import sys
from pathlib import Path

import pytest
import torch

from ase_equivariant.architectures import NequIPConfig
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.potential.potential import Potential, PotentialConfig

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from systems import system

pytest.importorskip("pytest_benchmark")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def potential():
    torch.manual_seed(0)
    network = NequIPConfig(species=("H", "C", "O", "Si"), cutoff=5.0, avg_num_neighbors=20.0)
    return Potential(PotentialConfig(architecture=network)).float().requires_grad_(False)


@pytest.mark.parametrize("name", ["ethanol", "water64", "si512"])
@pytest.mark.parametrize("kind", ["compiled", "eager"])
def test_energy_forces_stress(benchmark, potential, name, kind):
    model = FrozenPotential(potential) if kind == "compiled" else potential
    graph = atoms_to_graph(system(name), potential.cutoff)
    benchmark(model, graph, stress=True)
