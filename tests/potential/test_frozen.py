"""Compiled evaluation equals the eager potential: every instruction set, precision, number of threads."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from ase_equivariant import load_model
from ase_equivariant.architectures import NequIPConfig
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.io.registry import shipped_models
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.freeze import refuse_unsupported
from ase_equivariant.potential.frozen import FrozenPotential, NotFreezableError
from ase_equivariant.potential.potential import Potential, PotentialConfig, UnknownElementError
from ase_equivariant.testing import TEST_SYSTEMS

pytestmark = pytest.mark.skipif(native.best_level() < 0, reason="no compiled kernels: there is no C++ compiler")

# Channels that do not fill a vector, every kind of irrep, more than one hidden layer in the read-out.
ODD_SIZES = {"irreps_hidden": "20x0e+9x0o+12x1o+7x1e+5x2e", "l_max": 2, "num_layers": 3, "norm": "rms"}
NETWORKS = {
    "odd sizes, norm": ODD_SIZES,
    "rotations only, xplor": {
        "irreps_hidden": "20x0e+12x1e+5x2e+3x3e",
        "l_max": 3,
        "num_layers": 2,
        "parity": False,
        "self_connection": "linear",
        "cutoff_function": "xplor",
        "xplor_onset": 3.0,
    },
    "l=4, alone": {"irreps_hidden": "33x0e+4x1o+4x4e", "l_max": 4, "num_layers": 2, "self_connection": "none"},
    "as SevenNet's multi-fidelity models": {
        "irreps_hidden": "20x0e+4x1e",
        "l_max": 1,
        "num_layers": 2,
        "parity": False,
        "scalar_bias": True,
        "solid_harmonics": True,
    },
    "as NequIP's with types": {
        "irreps_hidden": "20x0e+4x1o",
        "l_max": 1,
        "num_layers": 3,
        "pair_cutoffs": {"H": {"H": 2.5, "O": 2.0}, "Si": {"O": 3.0}},
        "neighbors_per_species": {"H": 4.0, "C": 9.0, "O": 2.0, "Si": 16.0},
        "first_self_connection": False,
    },
    "squares": {
        "irreps_hidden": "20x0e+9x0o+12x1o+7x1e+5x2e",
        "l_max": 2,
        "num_layers": 3,
        "tensor_square": True,
        "scalar_bias": True,
    },
    "squares, norm": {
        "irreps_hidden": "8x0e+18x1o+8x3o",
        "l_max": 3,
        "num_layers": 2,
        "tensor_square": True,
        "norm": "rms",
    },
    "one layer": {"irreps_hidden": "8x0e", "l_max": 0, "num_layers": 1},
}


def make(name, **potential):
    torch.manual_seed(4)
    architecture = NequIPConfig(species=("H", "C", "O", "Si"), cutoff=3.5, avg_num_neighbors=10.0, **NETWORKS[name])
    made = Potential(PotentialConfig(architecture=architecture, **{"readout_hidden": (7, 5), **potential}))
    for key, parameter in made.named_parameters():
        if key.endswith("bias"):
            parameter.data += torch.linspace(-0.3, 0.4, len(parameter), dtype=torch.float64)  # they start at zero
    made.scaling.set(scale=[0.7, 1.1, 1.3, 0.9], shift=[-13.0, 0.3, -0.1, 200.0])
    return made.requires_grad_(False)


def crystal():
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    atoms.symbols[::5] = "O"
    atoms.rattle(0.1, seed=0)
    return atoms


def deviation(found, expected):
    return {
        key: float((found[key] - expected[key]).abs().max() / expected[key].abs().max().clamp(min=1))
        for key in expected
    }


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_the_eager_potential(name, dtype, level, check):
    potential, allowed = make(name), {torch.float64: 1e-9, torch.float32: 2e-5}[dtype]
    compiled = FrozenPotential(potential, dtype, level=level)
    graphs = [
        atoms_to_graph(atoms(), potential.cutoff) for atoms in (*TEST_SYSTEMS.values(), crystal) if supported(atoms())
    ]
    for graph in [*graphs, AtomicGraph.collate(graphs)]:
        expected = potential(graph, stress=True)
        found = compiled(graph, stress=True)
        assert set(found) == set(expected)
        for key, value in deviation(found, {k: v for k, v in expected.items() if k != "stress"}).items():
            check(f"compiled = eager, {str(dtype)[6:]}: {key}", value, allowed)


def supported(atoms):
    return set(atoms.symbols) <= {"H", "C", "O", "Si"}


def malonaldehyde():
    where = [
        [0.587, 0.960, 0.612], [0.264, 0.019, -0.537], [-0.842, -0.949, -0.114], [-1.899, -1.064, -0.696],
        [1.242, 0.634, 1.583], [0.140, 1.981, 0.529], [-0.054, 0.558, -1.437], [1.161, -0.588, -0.735],
        [-0.599, -1.552, 0.795],
    ]  # fmt: skip
    return Atoms("C3O2H4", positions=where)


@pytest.mark.parametrize(
    ("model", "make_atoms"),
    [
        ("md17-malonaldehyde", malonaldehyde),
        ("rmd17-ethanol", lambda: molecule("CH3CH2OH")),
        ("rmd17-benzene", lambda: molecule("C6H6")),
        ("si", lambda: bulk("Si", "diamond", 5.47, cubic=True)),
    ],
)
def test_tables_in_single_precision_are_as_good_as_its_rounding(model, make_atoms, check):
    potential, rng, worst = load_model(shipped_models()[model]).potential.double(), np.random.default_rng(0), []
    compiled = FrozenPotential(potential, torch.float32)
    for _ in range(30):
        atoms = make_atoms()
        atoms.positions += rng.normal(scale=0.04, size=atoms.positions.shape)
        graph = atoms_to_graph(atoms, potential.cutoff)
        worst.append(float((compiled(graph)["forces"].double() - potential(graph)["forces"]).abs().max()))
    check("compiled forces of shipped models, float32, 30 structures: median (eV/Å)", float(np.median(worst)), 4e-5)
    check("compiled forces of shipped models, float32, 30 structures: largest (eV/Å)", max(worst), 1e-4)


def test_zbl_is_added(check):
    potential = make("one layer", zbl=True, zbl_inner=0.8, zbl_outer=2.0)
    atoms = Atoms("HOSi", positions=[[0, 0, 0], [0.6, 0, 0], [0.6, 1.5, 0]], cell=[4, 4, 4], pbc=True)
    graph = atoms_to_graph(atoms, potential.cutoff)
    expected, found = potential(graph, stress=True), FrozenPotential(potential)(graph, stress=True)
    assert expected["forces"].abs().max() > 10
    for key, value in deviation(found, expected).items():
        check(f"compiled = eager with ZBL: {key}", value, 1e-10)


def test_number_of_threads_changes_rounding_only_and_repeats_to_the_bit(check):
    potential = make("odd sizes, norm")
    compiled, graph, threads = (
        FrozenPotential(potential),
        atoms_to_graph(crystal(), potential.cutoff),
        torch.get_num_threads(),
    )
    results = {}
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results[count] = compiled(graph, stress=True)
            again = compiled(graph, stress=True)
            assert all(torch.equal(results[count][key], again[key]) for key in again)
    finally:
        torch.set_num_threads(threads)
    for count in (2, 5):
        for key, value in deviation(results[count], results[1]).items():
            check(f"threads: {key}", value, 1e-12)


def test_memory_of_a_larger_structure_does_no_harm_to_a_smaller_one():
    potential = make("odd sizes, norm")
    compiled = FrozenPotential(potential)
    small, large = (atoms_to_graph(atoms, potential.cutoff) for atoms in (crystal()[:9], crystal()))
    before = compiled(small, stress=True)
    compiled(large, stress=True)
    after = compiled(small, stress=True)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_energies_alone_are_the_same():
    potential = make("odd sizes, norm")
    compiled, graph = FrozenPotential(potential), atoms_to_graph(crystal(), potential.cutoff)
    assert torch.equal(compiled(graph, forces=False)["node_energies"], compiled(graph)["node_energies"])


def test_no_atoms_and_no_edges():
    compiled = FrozenPotential(make("odd sizes, norm"))
    empty = compiled(atoms_to_graph(Atoms(), compiled.cutoff), stress=True)
    assert (empty["energy"].tolist(), empty["forces"].shape) == ([0.0], (0, 3))
    lonely = compiled(atoms_to_graph(Atoms("O"), compiled.cutoff))
    assert lonely["forces"].eq(0).all()


def test_later_changes_of_the_weights_are_not_seen():
    potential = make("one layer")
    compiled, graph = FrozenPotential(potential), atoms_to_graph(crystal(), potential.cutoff)
    before = compiled(graph)["energy"].clone()
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.mul_(2)
    potential.scaling.set(shift=[1.0, 1.0, 1.0, 1.0])
    assert torch.equal(compiled(graph)["energy"], before)


def test_positions_that_are_not_numbers_give_no_number():
    potential = make("one layer")
    graph = atoms_to_graph(crystal(), potential.cutoff)
    graph.edge_vectors[0] = torch.nan
    found = FrozenPotential(potential)(graph)
    assert found["energy"].isnan().all()
    assert found["forces"].isnan().any()


def test_wrong_graphs_are_refused():
    compiled = FrozenPotential(make("one layer"))
    graph = atoms_to_graph(crystal(), compiled.cutoff)
    with pytest.raises(UnknownElementError, match="does not know Cu"):
        compiled(atoms_to_graph(bulk("Cu"), compiled.cutoff))
    numbers, edge_index = np.zeros(4, dtype=np.int64), graph.edge_index.numpy()
    vectors = graph.edge_vectors.numpy()
    with pytest.raises(IndexError, match="beyond 0 to 3"):
        compiled._run(numbers, edge_index, vectors, forces=True, virials=False, threads=1)
    with pytest.raises(ValueError, match="not sorted"):
        compiled._run(np.zeros(64, np.int64), edge_index[:, ::-1], vectors, forces=True, virials=False, threads=1)


def test_what_cannot_be_compiled_is_said():
    with pytest.raises(NotFreezableError, match=r"float32 or float64, not torch\.float16"):
        refuse_unsupported(make("one layer"), torch.float16)
    network = NequIPConfig(species=("H",), cutoff=3.0, l_max=5, irreps_hidden="2x0e+2x5o", num_layers=2)
    with pytest.raises(NotFreezableError, match="degrees above 4"):
        FrozenPotential(Potential(PotentialConfig(architecture=network)))
    steep = deepcopy(make("one layer"))
    steep.network.basis.wave_numbers.data *= 1e4
    with pytest.raises(NotFreezableError, match="cannot be tabulated: they change too fast for 8192 intervals"):
        FrozenPotential(steep)
