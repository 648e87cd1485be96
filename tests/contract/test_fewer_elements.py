"""A potential for fewer elements gives the same of those that are left."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from cases import CASES, SPECIES

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.model_file import ModelCard, load_model, save_model
from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.potential.potential import UnknownElementError
from ase_equivariant.potential.restrict import restrict_species

READOUTS = ({"kind": "dipole", "charges": True}, {"kind": "polarizability"}, {"kind": "charges"})


def potential_of(config):
    torch.manual_seed(0)
    potential = Potential(config)
    generator = np.random.default_rng(0)
    potential.scaling.set(scale=generator.uniform(0.5, 2, len(SPECIES)), shift=generator.normal(size=len(SPECIES)))
    return potential


@pytest.mark.parametrize("name", CASES)
def test_the_same_for_what_is_left(name):
    potential = potential_of(CASES[name])
    fewer = restrict_species(potential, {"O", "H"})
    assert fewer.species == ("H", "O")  # in the model's order
    assert sum(p.numel() for p in fewer.parameters()) < sum(p.numel() for p in potential.parameters())
    graph = atoms_to_graph(molecule("H2O2"), potential.cutoff)
    for key, values in potential(graph).items():
        torch.testing.assert_close(fewer(graph)[key], values, rtol=1e-11, atol=1e-12)
    with pytest.raises(UnknownElementError, match="does not know C: it was made for H, O"):
        fewer(atoms_to_graph(molecule("CH4"), potential.cutoff))


def test_readouts_precision_and_files(tmp_path):
    config = next(iter(CASES.values())).model_dump() | {"readouts": READOUTS}
    config["architecture"] |= {"l_max": 2, "irreps_hidden": "4x0e+4x1o+4x2e"}
    potential = potential_of(PotentialConfig.parse(config))
    for read in potential.tensor_readouts().values():
        read.scaling.set(scale=[1.0, 2.0, 3.0, 4.0], shift=[0.1, 0.2, 0.3, 0.4])
    fewer = restrict_species(potential.to(torch.float32), ["O", "H"])
    assert fewer.dtype == torch.float32
    assert fewer.scaling.shift.dtype == torch.float64
    graph = atoms_to_graph(molecule("H2O2"), potential.cutoff)
    save_model(tmp_path / "fewer.safetensors", fewer, ModelCard(name="fewer"))
    loaded = load_model(tmp_path / "fewer.safetensors").potential
    for key, values in potential(graph).items():
        torch.testing.assert_close(fewer(graph)[key], values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(loaded(graph)[key], values, rtol=1e-4, atol=1e-5)


def test_the_generator_and_the_potential_stay_as_they_were():
    potential = potential_of(CASES["l=1"])
    before, state = {k: v.clone() for k, v in potential.state_dict().items()}, torch.get_rng_state()
    restrict_species(potential, ["H"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], values) for name, values in potential.state_dict().items())


@pytest.mark.parametrize(
    ("species", "message"), [(["H", "Fe"], "does not know Fe: it was made for H, C"), ([], "no elem")]
)
def test_what_cannot_be_left_is_named(species, message):
    with pytest.raises(ValueError, match=message):
        restrict_species(potential_of(CASES["l=1"]), species)
