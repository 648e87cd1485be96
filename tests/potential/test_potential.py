"""What a potential says of itself and of input it cannot use; the promises are in tests/contract."""

from __future__ import annotations

import math

import pytest
import torch
from ase import Atoms

from ase_equivariant.architectures import NequIPConfig
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.irreps import merge
from ase_equivariant.potential.potential import Potential, PotentialConfig, UnknownElementError
from ase_equivariant.potential.readouts import EnergyReadout
from ase_equivariant.testing import TEST_SYSTEMS

SETTINGS = {"species": ("H", "C", "O"), "cutoff": 3.0, "num_layers": 2, "irreps_hidden": "4x0e+2x1o", "l_max": 1}


def make(**options):
    return Potential(PotentialConfig(architecture=NequIPConfig(**SETTINGS), **options))


def test_attributes():
    potential = make()
    assert (potential.species, potential.cutoff) == (("H", "C", "O"), 3.0)
    assert (potential.dtype, potential.device.type) == (torch.float64, "cpu")
    assert potential.float().dtype == torch.float32


def test_unknown_elements_are_named_with_the_known_ones():
    atoms = Atoms("HNCHeX", positions=[[k, 0, 0] for k in range(5)])
    with pytest.raises(UnknownElementError, match="does not know He, N, X: it was made for H, C, O"):
        make()(atoms_to_graph(atoms, 3.0))


def test_energy_is_scaled_and_shifted_by_species():
    potential, atoms = make(), TEST_SYSTEMS["molecule"]()
    graph = atoms_to_graph(atoms, 3.0)
    before = potential(graph)
    potential.scaling.set(scale=[2.0, 2.0, 2.0], shift=[-1.0, -10.0, -100.0])
    after = potential(graph)
    expected = 2 * float(before["energy"][0]) + sum({"H": -1, "C": -10, "O": -100}[s] for s in atoms.symbols)
    assert float(after["energy"][0]) == pytest.approx(expected, rel=1e-14)
    torch.testing.assert_close(after["forces"], 2 * before["forces"], rtol=1e-13, atol=1e-15)


def test_zbl_adds_the_pair_energy():
    plain, atoms = make(), Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.3]])
    repelling = make(zbl=True)
    repelling.load_state_dict(plain.state_dict())
    graph = atoms_to_graph(atoms, 3.0)
    # Two protons at 0.3 Å, ZBL by hand: a = 0.23425 Å, x = 1.28068, φ(x) = 0.34955; the switch adds its constant.
    bare = (
        14.399645
        / 0.3
        * sum(
            c * math.exp(-d * 0.3 / 0.23425)
            for c, d in zip((0.18175, 0.50986, 0.28022, 0.02817), (3.19980, 0.94229, 0.40290, 0.20162), strict=True)
        )
    )
    difference = float((repelling(graph)["energy"] - plain(graph)["energy"])[0])
    assert 0.8 * bare < difference < bare
    assert float(repelling(graph)["forces"][1, 2] - plain(graph)["forces"][1, 2]) > 50.0


def test_gradients_reach_every_parameter():
    """After a loss of energy and forces; what no loss can reach is a waste of parameters."""
    potential = make(readout_hidden=(5,))
    found = potential(atoms_to_graph(TEST_SYSTEMS["molecule"](), 3.0), create_graph=True)
    (found["energy"].sum() + found["forces"].square().sum()).backward()
    silent = [name for name, p in potential.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_readout_reads_the_even_scalars_only():
    irreps = merge("3x0e+2x0o+1x1o")
    readout, x = EnergyReadout(irreps, (4,)), torch.randn(5, irreps.dim, dtype=torch.float64)
    changed = x.clone()
    changed[:, :2] += 1.0  # 0o sorts first
    changed[:, 5:] += 1.0
    assert torch.equal(readout(x), readout(changed))
    changed[:, 2] += 1.0
    assert not torch.equal(readout(x), readout(changed))


@pytest.mark.parametrize(
    "ends", [{"zbl_inner": 1.2}, {"zbl_outer": 3.5}, {"zbl_inner": 2.0, "zbl_outer": 1.0}], ids=str
)
def test_zbl_ends_must_fit(ends):
    with pytest.raises(ValueError, match="choose zbl_inner < zbl_outer <= cutoff"):
        make(zbl=True, **ends)
