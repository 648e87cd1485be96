"""SevenNet checkpoints: the same energies, forces and stress as SevenNet's calculator gives in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_equivariant import EquivariantCalculator, load_model, save_model
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.foreign.converted import ForeignModelError
from ase_equivariant.io.foreign.importing import convert_file, importer_of
from ase_equivariant.io.foreign.sevennet import convert, modalities
from ase_equivariant.testing import assert_derivatives

GOLDEN = Path(__file__).resolve().parent.parent.parent / "golden"
ANSWERS = json.loads((GOLDEN / "sevennet_tiny.json").read_text())
VARIANTS = list(ANSWERS["answers"])


def converted(variant):
    name, _, modal = variant.partition(":")
    return convert(GOLDEN / name, modal=modal or None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_models_agree_with_sevennet(variant, check):
    """Parity, both self-connections, modalities, biases, solid harmonics, read-out perceptron, irreps out of order."""
    expected = ANSWERS["answers"][variant]
    assert max(np.abs(answer["forces"]).max() for answer in expected.values()) > 1e-3, "nothing to compare"
    potential = converted(variant).potential
    for fast, allowed in ((False, 1e-12), (True, 1e-9)):
        calculator, suffix = EquivariantCalculator(potential, fast=fast), ", compiled" if fast else ""
        for name, answer in expected.items():
            atoms = Atoms(**ANSWERS["structures"][name], calculator=calculator)
            energy = abs(atoms.get_potential_energy() - answer["energy"]) / len(atoms)
            check(f"SevenNet parity, small models{suffix}: energy per atom", energy, allowed)
            forces = np.abs(atoms.get_forces() - answer["forces"]).max()
            check(f"SevenNet parity, small models{suffix}: forces", forces, allowed)
            if "stress" in answer:
                stress = np.abs(atoms.get_stress() - answer["stress"]).max()
                check(f"SevenNet parity, small models{suffix}: stress", stress, allowed)


@pytest.mark.parametrize("variant", VARIANTS)
def test_derivatives_of_converted_models(variant, check):
    atoms = Atoms(**ANSWERS["structures"]["crystal"])
    violation = assert_derivatives(converted(variant).potential, atoms, step=1e-4, num_components=2)
    check("SevenNet, converted: finite differences", violation, 1e-6)


def test_modalities_are_chosen_by_name():
    path = GOLDEN / "sevennet_tiny_modal.pth"
    assert modalities(path) == ("pbe", "scan")
    assert modalities(GOLDEN / "sevennet_tiny_species.pth") == ()
    with pytest.raises(ForeignModelError, match=r"needs a level of theory: choose modal='pbe' or modal='scan'"):
        convert_file(path)
    with pytest.raises(ForeignModelError, match=r"knows no modal='PBE': choose modal='pbe'"):
        convert_file(path, modal="PBE")
    with pytest.raises(ForeignModelError, match=r"one level of theory; leave out modal='pbe'"):
        convert_file(GOLDEN / "sevennet_tiny_species.pth", modal="pbe")


def test_a_converted_model_is_saved_and_loaded(tmp_path):
    result = converted(VARIANTS[0])
    save_model(tmp_path / "m.safetensors", result.potential, result.card)
    graph = atoms_to_graph(Atoms(**ANSWERS["structures"]["crystal"]), result.potential.cutoff)
    loaded = load_model(tmp_path / "m.safetensors").potential
    assert torch.equal(loaded(graph)["energy"], result.potential(graph)["energy"])
    assert result.card.reference_energies["O"] == pytest.approx(3.0)


def altered(tmp_path, change):
    """A checkpoint as sevenn writes it, with something changed."""
    checkpoint = torch.load(GOLDEN / "sevennet_tiny_species.pth", weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "altered.pth")
    return tmp_path / "altered.pth"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("act_radial", "ssp", "activations are not silu"),
        ("readout_as_fcn", True, "read-out is a perceptron with relu"),
        ("self_connection_type", ["nequip", "linear"], "only one for all layers"),
        ("radial_basis", {"radial_basis_name": "gaussian"}, "only 'bessel' is known"),
        ("cutoff", -1.0, "cutoff"),
        ("channel", 5, "its configuration asks for"),
    ],
)
def test_what_cannot_be_represented_is_refused_with_the_reason(tmp_path, key, value, words):
    path = altered(tmp_path, lambda checkpoint: checkpoint["config"].update({key: value}))
    with pytest.raises(ForeignModelError, match=words) as error:
        convert_file(path)
    assert "\n" not in str(error.value)


def test_tensors_too_many_or_missing_are_refused(tmp_path):
    path = altered(tmp_path, lambda checkpoint: checkpoint["model_state_dict"].update(extra=torch.ones(3)))
    with pytest.raises(ForeignModelError, match="does not explain, such as extra"):
        convert_file(path)
    path = altered(tmp_path, lambda c: c["model_state_dict"].pop("0_self_interaction_1.linear.weight"))
    with pytest.raises(ForeignModelError, match="it has no 0_self_interaction_1"):
        convert_file(path)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "short.pth"
    path.write_bytes((GOLDEN / "sevennet_tiny_species.pth").read_bytes()[:9000])
    assert importer_of(path) is None
    with pytest.raises(ForeignModelError, match="not a SevenNet checkpoint that can be read"):
        convert(path)
