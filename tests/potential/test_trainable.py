"""Compiled derivatives by the weights equal autograd's: every kind of network, instruction set and precision."""

from pathlib import Path

import pytest
import torch
from ase.build import molecule
from test_frozen import NETWORKS, crystal, make

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.io.model_file import load_model
from ase_equivariant.kernels import network as native
from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.potential.frozen import NotFreezableError
from ase_equivariant.potential.trainable import TrainablePotential
from ase_equivariant.testing import TEST_SYSTEMS

pytestmark = pytest.mark.skipif(native.best_level() < 0, reason="no compiled kernels: there is no C++ compiler")

MODELS = Path(__file__).parents[2] / "models"
WITHOUT_NORM = [name for name in NETWORKS if "norm" not in NETWORKS[name]]
# XPLOR's curvature jumps at its onset, which splines round off.
TOLERANCE = dict.fromkeys(WITHOUT_NORM, 2e-7) | {"rotations only, xplor": 2e-3}
FINE = 0.002  # Å, where the splines' error is far below what is looked for


def graph_of(*atoms, dtype=torch.float64):
    return AtomicGraph.collate([atoms_to_graph(one, 3.5, dtype=torch.float64).to("cpu", dtype) for one in atoms])


def gradients(potential, predict, graph, **wanted):
    """Of a loss that has every quantity with other weights for each component."""
    generator = torch.Generator().manual_seed(0)

    def weights(like):
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    prediction = predict(graph, forces=True, stress=True, **wanted)
    loss = sum((weights(prediction[key]) * prediction[key]).sum() for key in ("energy", "forces", "virial"))
    named = [(name, p) for name, p in potential.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    return {name: g for (name, _), g in zip(named, found, strict=True)}, prediction


def assert_same(potential, fast, graph, tolerance):
    expected, reference = gradients(potential, potential, graph, create_graph=True)
    found, prediction = gradients(potential, fast, graph)
    for key in ("energy", "forces", "virial", "node_virials"):
        torch.testing.assert_close(prediction[key], reference[key], rtol=tolerance, atol=10 * tolerance)
    size = torch.cat([g.flatten() for g in expected.values() if g is not None]).norm()
    for name, gradient in expected.items():
        gradient = torch.zeros_like(found[name]) if gradient is None else gradient
        assert (found[name] - gradient).norm() <= tolerance * max(gradient.norm(), 1e-3 * size), name


@pytest.mark.parametrize("name", WITHOUT_NORM)
def test_equals_autograd(name):
    potential = make(name).requires_grad_(True)
    graph = graph_of(crystal(), TEST_SYSTEMS["molecule"]())
    assert_same(potential, TrainablePotential(potential, spacing=FINE), graph, TOLERANCE[name])


@pytest.mark.parametrize("level", range(native.best_level() + 1))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_instruction_sets_and_precisions(level, dtype):
    potential = make("as NequIP's with types").to(dtype).requires_grad_(True)
    graph = graph_of(crystal(), dtype=dtype)
    fine = FINE if dtype == torch.float64 else 0.02
    tolerance = 2e-7 if dtype == torch.float64 else 2e-4
    assert_same(potential, TrainablePotential(potential, spacing=fine, level=level), graph, tolerance)


def test_default_spacing_is_fine_enough():
    potential = make("l=4, alone").requires_grad_(True)
    assert_same(potential, TrainablePotential(potential), graph_of(crystal()), 2e-4)


def test_default_spacing_suits_a_trained_network():
    """Training makes radial functions sharper: errors of splines must stay far below those of the model, 3 meV/Å."""
    potential = load_model(MODELS / "rmd17-ethanol.safetensors").potential.double()
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    graph = atoms_to_graph(atoms, potential.cutoff)
    error = TrainablePotential(potential)(graph)["forces"] - potential(graph)["forces"]
    assert error.abs().mean() < 1e-4  # eV/Å


@pytest.mark.parametrize("num_radial", [4, 24])
def test_default_spacing_suits_fast_radial_functions(num_radial):
    settings = {"species": ["H", "C", "O"], "cutoff": 4.0, "num_layers": 2, "l_max": 1, "irreps_hidden": "8x0e+8x1o"}
    architecture = {**settings, "num_radial": num_radial}
    potential = Potential(PotentialConfig.parse({"architecture": architecture})).double()
    graph = graph_of(TEST_SYSTEMS["molecule"]())
    expected = potential(graph)["forces"]
    assert (TrainablePotential(potential)(graph)["forces"] - expected).norm() < 1e-3 * expected.norm()


def test_threads_agree_and_repeat_to_the_bit():
    potential = make("l=4, alone").requires_grad_(True)
    fast, graph, before = TrainablePotential(potential), graph_of(*[crystal()] * 8), torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found[threads] = [gradients(potential, fast, graph)[0] for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    for first, second in found.values():
        assert all(torch.equal(first[name], second[name]) for name in first)
    for name in found[1][0]:
        torch.testing.assert_close(found[3][0][name], found[1][0][name], rtol=1e-9, atol=1e-9)


def test_repulsion_is_added():
    potential = make("one layer", zbl=True, zbl_inner=1.0, zbl_outer=2.6).requires_grad_(True)
    graph = graph_of(crystal(), TEST_SYSTEMS["molecule"]())
    assert_same(potential, TrainablePotential(potential, spacing=FINE), graph, 2e-7)


def test_follows_the_weights_and_leaves_frozen_ones_alone():
    potential = make("l=4, alone").requires_grad_(True)
    fast, graph = TrainablePotential(potential, spacing=FINE), graph_of(crystal())
    fast(graph)
    with torch.no_grad():
        for p in potential.parameters():
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    potential.network.layers[0].requires_grad_(False)
    assert_same(potential, fast, graph, 2e-7)


@pytest.mark.parametrize("system", ["atom", "edgeless"])
def test_atoms_without_neighbours(system):
    potential = make("as NequIP's with types").requires_grad_(True)
    assert_same(potential, TrainablePotential(potential), graph_of(TEST_SYSTEMS[system]()), 1e-9)


def test_without_gradients_there_are_values_only():
    potential = make("one layer").requires_grad_(True)
    with torch.no_grad():
        prediction = TrainablePotential(potential)(graph_of(crystal()))
    assert not prediction["energy"].requires_grad
    assert set(prediction) == {"energy", "node_energies", "forces"}


def test_a_normalization_is_refused():
    with pytest.raises(NotFreezableError, match="normalization"):
        TrainablePotential(make("odd sizes, norm"))


def test_gradients_of_another_evaluation_are_refused():
    potential = make("one layer").requires_grad_(True)
    fast = TrainablePotential(potential)
    prediction = fast(graph_of(crystal()))
    with torch.no_grad():
        fast(graph_of(TEST_SYSTEMS["molecule"]()))
    with pytest.raises(RuntimeError, match="other structures were evaluated since"):
        prediction["energy"].sum().backward()
