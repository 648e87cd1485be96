"""What is predicted beside the energy: how it turns, what its derivatives are, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from cases import CUTOFF, SPECIES, random_rotation, relative, system

from ase_equivariant import EquivariantCalculator
from ase_equivariant.architectures import GVPConfig, NequIPConfig
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.potential.potential import Potential, PotentialConfig
from ase_equivariant.potential.trainable import NotFreezableError, TrainablePotential
from ase_equivariant.testing import TEST_SYSTEMS
from ase_equivariant.testing.equivariance import turn_features

EVERYTHING = (
    {"kind": "dipole"},
    {"kind": "polarizability", "hidden": (4,)},
    {"kind": "charges", "hidden": (5,)},
    {"kind": "irreps", "name": "own", "value": "2x0e+1o+2e"},
    {"kind": "irreps", "name": "shielding", "value": "0e+1e", "of": "atoms", "hidden": (3, 4)},
)
IRREPS = {"own": "2x0e+1x1o+1x2e", "shielding": "1x0e+1x1e"}


def _nequip(readouts, **settings):
    given = {"num_layers": 3, "radial_hidden": (8,), "num_radial": 5, "avg_num_neighbors": 12.0, "l_max": 2}
    network = NequIPConfig(
        species=SPECIES, cutoff=CUTOFF, **{"irreps_hidden": "4x0e+3x1o+2x1e+3x2e", **given, **settings}
    )
    return PotentialConfig(architecture=network, readouts=readouts)


CASES = {
    "everything": _nequip(EVERYTHING),
    "dipole of charges": _nequip(({"kind": "dipole", "charges": True, "hidden": (4,)},)),
    "irreps of each layer": _nequip(
        ({"kind": "polarizability"}, {"kind": "dipole"}),
        num_layers=2,
        irreps_hidden=("4x0e+2x1o+2x2e", "3x0e+2x1o+2x2e"),
    ),
    "gvp": PotentialConfig(
        architecture=GVPConfig(
            species=SPECIES, cutoff=CUTOFF, num_scalars=6, num_vectors=4, edge_scalars=4, num_layers=2,
            avg_num_neighbors=12.0,
        ),
        readouts=({"kind": "dipole", "hidden": (3,)}, {"kind": "charges"}),
    ),
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES)
with_dipole = pytest.mark.parametrize("case", ["everything", "dipole of charges", "gvp"])


@cache
def potential(case) -> Potential:
    torch.manual_seed(8)
    made = Potential(CASES[case])
    made.requires_grad_(False)
    found = made(atoms_to_graph(system("molecule"), CUTOFF))
    for key, read in made.readouts.items():  # to values of the order of one, that something is seen of them
        size = float((found[key] - (_isotropic(found[key]) if key == "polarizability" else 0)).abs().max())
        scale = torch.tensor([0.7, 1.1, 1.3, 0.9], dtype=torch.float64) / size
        read.scaling.set(scale=scale, shift=[0.2, -0.3, 0.4, 0.1])
    return made


def _isotropic(tensor):
    return tensor.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(3, dtype=tensor.dtype)


def ask(case, atoms, **options):
    return potential(case)(atoms_to_graph(atoms, CUTOFF), **options)


def ion(charge=1.0) -> Atoms:
    atoms = system("molecule").copy()
    atoms.info["charge"] = charge
    return atoms


@every_case
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["molecule", "mixed", "atom"])
def test_turn(case, sign, name, check):
    """Dipoles as polar vectors, polarizabilities and dμ/dr as tensors, charges not at all, the rest as it says."""
    atoms = system(name).copy()
    operation = sign * random_rotation(np.random.default_rng(4))
    turned = Atoms(atoms.numbers, atoms.positions @ operation.T, cell=atoms.cell.array @ operation.T, pbc=atoms.pbc)
    born = "dipole" in potential(case).readouts and case != "dipole of charges"
    before, after = ask(case, atoms, born_charges=born), ask(case, turned, born_charges=born)
    matrix = torch.from_numpy(operation)
    assert set(before) == set(after)
    for key, value in before.items():
        if key in IRREPS:
            from_e3nn = _as_e3nn_turns(value, IRREPS[key], matrix)
            expected = from_e3nn
        elif key == "dipole":
            expected = value @ matrix.T
        elif key in ("polarizability", "born_effective_charges"):
            expected = matrix @ value @ matrix.T
        elif key == "charges":
            expected = value
        else:
            continue
        check(f"{key} turns", relative(after[key], expected), 1e-10)


def _as_e3nn_turns(value, irreps, matrix):
    """Multiplicities one by one: then our order and e3nn's are the same."""
    parts, at = [], 0
    for term in irreps.split("+"):
        mul, ir = term.split("x")
        for _ in range(int(mul)):
            width = 2 * int(ir[0]) + 1
            parts.append(turn_features(value[:, at : at + width], f"1x{ir}", matrix))
            at += width
    assert at == value.shape[1]
    return torch.cat(parts, dim=1)


@every_case
def test_something_is_there(case):
    """Tensors that vanish would turn as anything."""
    for key, value in ask(case, system("molecule")).items():
        assert key not in potential(case).readouts or value.abs().max() > 0.1, key


def test_polarizability_is_symmetric_and_not_isotropic():
    alpha = ask("everything", system("molecule"))["polarizability"][0]
    torch.testing.assert_close(alpha, alpha.mT, rtol=0, atol=1e-14)
    assert (alpha - _isotropic(alpha)).abs().max() > 0.1


@every_case
def test_batch_is_its_structures(case, check):
    graphs = [atoms_to_graph(make(), CUTOFF) for make in TEST_SYSTEMS.values()]
    together = potential(case)(AtomicGraph.collate(graphs))
    singles = [potential(case)(graph) for graph in graphs]
    for key in potential(case).readouts:
        if key == "dipole":
            aperiodic = ~torch.cat([graph.is_periodic for graph in graphs])
            assert together[key][~aperiodic].isnan().all()
            assert [key in one for one in singles] == aperiodic.tolist()
            expected = torch.cat([one[key] for one in singles if key in one])
            check("batched = single: dipole", relative(together[key][aperiodic], expected), 1e-12)
        else:
            check(f"batched = single: {key}", relative(together[key], torch.cat([one[key] for one in singles])), 1e-12)


@with_dipole
@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_born_charges_are_derivatives(case, charge, check):
    """Of the dipole in a fixed frame: that about the centre of mass plus charge times the centre."""

    def lab(atoms):
        return ask(case, atoms)["dipole"][0].numpy() + charge * atoms.get_center_of_mass()

    atoms, step = ion(charge), 1e-4
    found = ask(case, atoms, born_charges=True)["born_effective_charges"].numpy()
    for atom in (0, len(atoms) - 1):
        for axis in range(3):
            moved = [atoms.copy(), atoms.copy()]
            for copy, sign in zip(moved, (1, -1), strict=True):
                copy.positions[atom, axis] += sign * step
            expected = (lab(moved[0]) - lab(moved[1])) / (2 * step)
            check("Born charges are dμ/dr", relative(found[atom, :, axis], expected, floor=0.1), 1e-6)
    check("acoustic sum rule", relative(found.sum(0), charge * np.eye(3), floor=1.0), 1e-12)


@with_dipole
@pytest.mark.parametrize("charge", [0.0, -1.0])
def test_dipole_does_not_depend_on_the_origin(case, charge, check):
    atoms = ion(charge)
    before = ask(case, atoms)["dipole"]
    atoms.positions += [5.0, -3.0, 2.0]
    check("dipole of a translated structure", relative(ask(case, atoms)["dipole"], before), 1e-12)


@pytest.mark.parametrize("charge", [0.0, 2.0])
def test_charges_sum_to_the_total(charge, check):
    check("sum of charges", abs(float(ask("everything", ion(charge))["charges"].sum()) - charge), 1e-12)


def test_dipole_of_a_periodic_structure_is_refused_and_its_derivative_is_not():
    found = ask("everything", system("skewed"), born_charges=True)
    assert "dipole" not in found
    assert found["born_effective_charges"].sum(0).abs().max() < 1e-12
    assert found["born_effective_charges"].abs().max() > 1e-3
    with pytest.raises(ValueError, match="charges = false"):
        ask("dipole of charges", system("skewed"), born_charges=True)


def test_what_is_not_asked_for_is_absent():
    atoms = system("molecule")
    assert set(ask("everything", atoms, readouts=False)) == {"energy", "node_energies", "forces"}
    assert "born_effective_charges" not in ask("everything", atoms)
    with torch.no_grad():
        assert not any(value.requires_grad for value in ask("everything", atoms, born_charges=True).values())


@every_case
def test_energy_and_forces_are_those_without_other_readouts(case, check):
    """Asking for more changes nothing: the energy reads scalars."""
    more, less = ask(case, system("mixed")), ask(case, system("mixed"), readouts=False)
    for key in less:
        check(f"{key} with and without", relative(more[key], less[key]), 1e-13)


@pytest.mark.parametrize("case", ["everything", "irreps of each layer"])
def test_compiled_energies(case, check):
    """Compiled code computes the energy and its derivatives of a network that carries more."""
    found = FrozenPotential(potential(case))(atoms_to_graph(system("mixed"), CUTOFF), stress=True)
    expected = ask(case, system("mixed"), stress=True, readouts=False)
    for key in ("energy", "forces", "stress"):
        check(f"compiled = eager: {key}", relative(found[key], expected[key]), 1e-8)
    with pytest.raises(NotFreezableError, match="no compiled gradients"):
        TrainablePotential(potential(case))


@every_case
def test_float32_and_back(case, check):
    """Scales and references keep their digits; values are close."""
    single = deepcopy(potential(case)).float()
    graph = atoms_to_graph(system("molecule"), CUTOFF)
    exact, rounded = potential(case)(graph), single(graph)
    for key, read in potential(case).readouts.items():
        assert rounded[key].dtype == torch.float64
        check(f"float32 = float64: {key}", relative(rounded[key], exact[key], floor=0.1), 1e-4)
        assert torch.equal(single.readouts[key].scaling.shift, read.scaling.shift)


@pytest.mark.parametrize(
    ("readouts", "settings", "message"),
    [
        (({"kind": "dipole"},), {"irreps_hidden": "4x0e+2x2e"}, "takes 1o"),
        (({"kind": "polarizability"},), {"irreps_hidden": "4x0e+2x1o"}, "takes 2e"),
        (({"kind": "polarizability"},), {"irreps_hidden": "4x0e+2x1o"}, "add it to irreps_hidden with an l_max"),
        (({"kind": "dipole"},), {"irreps_hidden": "4x0e+2x1e", "parity": False}, "takes 1o, .* set parity = true"),
        (({"kind": "polarizability"},), {"irreps_hidden": "4x0e+2x1e", "parity": False}, "2e, .* add it to irreps_hi"),
    ],
)
def test_networks_that_lack_an_irrep_are_refused(readouts, settings, message):
    with pytest.raises(ValueError, match=message):
        Potential(_nequip(readouts, **settings))


def test_gvp_has_no_tensors():
    architecture = {"name": "gvp", "species": ("H", "O"), "cutoff": 3.0}
    with pytest.raises(ValueError, match=r"takes 2e, .* polar vectors only .* model\.architecture\.name = \"nequip\""):
        Potential(PotentialConfig.parse({"architecture": architecture, "readouts": [{"kind": "polarizability"}]}))


@pytest.mark.parametrize(
    ("readouts", "message"),
    [
        (({"kind": "dipole"}, {"kind": "dipole"}), "two read-outs called 'dipole'"),
        (({"kind": "irreps", "name": "forces", "value": "1o"},), "another quantity"),
        (({"kind": "irreps", "name": "items", "value": "1o"},), "another quantity"),
        (({"kind": "irreps", "name": "magmoms", "value": "1o"},), "another quantity"),
        (({"kind": "irreps", "name": "own", "value": "1o+0e"},), "order"),
        (({"kind": "irreps", "name": "own", "value": "x"},), "not irreps"),
    ],
)
def test_wrong_readouts_are_refused(readouts, message):
    with pytest.raises(ValueError, match=message):
        _nequip(readouts)


def test_charge_must_be_a_number():
    with pytest.raises(ValueError, match="not a charge"):
        ask("everything", ion("positive"))


def test_results_follow_a_change_of_the_charge():
    atoms = ion(0.0)
    atoms.calc = EquivariantCalculator(potential("everything"))
    neutral, energy = atoms.get_charges().sum(), atoms.get_potential_energy()
    atoms.info["charge"] = 1.0
    assert atoms.get_charges().sum() - neutral == pytest.approx(1.0)
    assert atoms.get_potential_energy() == energy
