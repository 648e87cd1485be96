"""SevenNet checkpoints: the same energies, forces and stress as SevenNet's calculator gives in float64."""

import datetime
import json
import math
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
COUPLING = "0_convolution.convolution._compiled_main_left_right._w3j_0_1_1"


def converted(variant):
    name, _, modal = variant.partition(":")
    return convert(GOLDEN / name, modal=modal or None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_models_agree_with_sevennet(variant, check):
    """Parity, both self-connections and a mixture of them, modalities, biases, solid harmonics, read-out perceptron,
    irreps out of order or out of reach, fixed wave numbers."""
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
        ("self_connection_type", ["nequip", "none"], "self_connection_type 'none' is not known"),
        ("self_connection_type", ["nequip"], "self_connection_type lists 1 layers of 2"),
        ("self_connection_type", ["nequip", "linear"], "it has no 1_self_connection_intro.linear.weight"),
        ("radial_basis", {"radial_basis_name": "gaussian"}, "only 'bessel' is known"),
        ("radial_basis", {"radial_basis_name": "bessel", "bessel_basis_num": "many"}, "radial_basis.bessel_basis_num"),
        ("cutoff_function", {"cutoff_function_name": "cosine"}, "cutoff function 'cosine' is not known"),
        ("cutoff_function", "poly_cut", "cutoff_function"),
        ("cutoff", -1.0, "cutoff"),
        ("channel", 5, "its configuration asks for"),
        ("channel", 1 << 20, "has 628 numbers, its configuration asks for [0-9]{13}"),
        ("num_convolution_layer", 1 << 40, "num_convolution_layer"),
        ("version", None, "does not say its version"),
        ("version", "new", "version is 'new': SevenNet writes one such as"),
        ("optimize_by_reduce", False, "optimize_by_reduce: False"),
        ("_type_map", {1: 0, 6: 1, 8: 2, 14: 4}, "elements are not numbered from 0"),
        ("_type_map", {1: 0, 6: 1, 8: 2, 140: 3}, "are not nuclear charges"),
        ("irreps_manual", ["4x0e", "4x0e"], "irreps_manual lists 2 irreps"),
        ("irreps_manual", ["4x0e", "4x0e+what", "4x0e"], "'4x0e[+]what', which are not irreps"),
        ("irreps_manual", ["4x0e", "", "4x0e"], "'', which are no features"),
        ("irreps_manual", ["4x0e", "4x0e+1x12e", "4x0e"], "degrees above 11"),
        ("irreps_manual", ["4x0e", "2x1e+4x0e", "4x0e"], "scalars behind others in '2x1e[+]4x0e': .* not equivariant"),
        ("irreps_manual", ["4x0e", "2x0e+2x1e+2x0e", "4x0e"], "scalars behind others"),
        ("irreps_manual", ["4x0e", "4x0o+4x1o", "4x0e"], "no even scalars in '4x0o[+]4x1o': gates cannot be odd"),
        ("irreps_manual", ["4x0e", "4x0e+4x1e", "4x0e+1x1e"], "starts or ends with other irreps than even scalars"),
    ],
)
def test_what_cannot_be_represented_is_refused_with_the_reason(tmp_path, key, value, words):
    path = altered(tmp_path, lambda checkpoint: checkpoint["config"].update({key: value}))
    with pytest.raises(ForeignModelError, match=words) as error:
        convert_file(path)
    assert "\n" not in str(error.value)


def test_an_epoch_of_any_kind_does_not_stand_in_the_way(tmp_path):
    """It goes into the card, which holds plain values."""
    path = altered(tmp_path, lambda checkpoint: checkpoint.update(epoch=datetime.date(2024, 7, 11)))
    result = convert(path)
    save_model(tmp_path / "m.safetensors", result.potential, result.card)
    assert load_model(tmp_path / "m.safetensors").card.training["epoch"] is None
    assert convert(GOLDEN / "sevennet_tiny_species.pth").card.training["epoch"] == 0


def test_tensors_too_many_or_missing_are_refused(tmp_path):
    path = altered(tmp_path, lambda checkpoint: checkpoint["model_state_dict"].update(extra=torch.ones(3)))
    with pytest.raises(ForeignModelError, match="does not explain, such as extra"):
        convert_file(path)
    path = altered(tmp_path, lambda c: c["model_state_dict"].pop("0_self_interaction_1.linear.weight"))
    with pytest.raises(ForeignModelError, match="it has no 0_self_interaction_1"):
        convert_file(path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("0_self_interaction_1.linear.weight", lambda w: w * math.nan, "numbers that are not finite"),
        ("0_convolution.weight_nn.layer0.weight", lambda w: w.T, "has shape"),
        ("edge_embedding.basis_function.coeffs", lambda w: w[:-1], "coeffs has shape"),
        (
            "0_convolution.convolution._compiled_main_left_right._w3j_0_1_1",
            lambda _: torch.ones(1, 3, 3),
            "not in e3nn's basis",
        ),
        (
            "0_convolution.convolution._compiled_main_left_right._w3j_0_1_1",
            lambda _: torch.ones(2),
            "of l = 0, 1, 1 are",
        ),
        ("rescale_atomic_energy.shift", lambda w: w[:2], "rescale_atomic_energy.shift has shape"),
        ("0_self_interaction_1.linear.weight", lambda w: "text", "is no tensor"),
    ],
)
def test_tensors_that_cannot_be_meant_are_refused(tmp_path, name, change, words):
    def changed(checkpoint):
        state = checkpoint["model_state_dict"]
        state[name] = change(state.get(name))

    path = altered(tmp_path, changed)
    with pytest.raises(ForeignModelError, match=words) as error:
        convert_file(path)
    assert "\n" not in str(error.value)


def test_a_self_connection_with_biases_is_refused(tmp_path):
    """SevenNet has none; they would be lost."""
    checkpoint = torch.load(GOLDEN / "sevennet_tiny_bias.pth", weights_only=False)
    checkpoint["model_state_dict"]["1_self_connection_intro.linear.bias"] = torch.ones(4)
    torch.save(checkpoint, tmp_path / "biased.pth")
    with pytest.raises(ForeignModelError, match="1_self_connection_intro has biases"):
        convert_file(tmp_path / "biased.pth")


def test_fixed_wave_numbers_are_those_of_single_precision():
    """SevenNet makes them in float32 and leaves them so: π/r_c of float64 would be another function."""
    numbers = converted("sevennet_tiny_unreached.pth").potential.network.basis.wave_numbers
    exact = math.pi / 4.0 * torch.arange(1.0, 6.0, dtype=torch.float64)
    assert torch.equal(numbers, exact.float().double())
    assert not torch.equal(numbers, exact)


def test_irreps_that_nothing_leads_to_are_left_out():
    layers = converted("sevennet_tiny_unreached.pth").potential.network.layers
    assert [str(layer.irreps_out) for layer in layers] == ["4x0e+2x1o", "4x0e+2x1o+3x1e", "4x0e"]


@pytest.mark.parametrize("junk", [None, 7, "text", "9" * 5000, [], {}, [[None]], {"a": {}}, -1, 1e300], ids=range(10))
def test_junk_in_any_place_is_refused_or_means_nothing(tmp_path, junk):
    """Whatever stands where a setting, or a part of the checkpoint, should be."""
    original = torch.load(GOLDEN / "sevennet_tiny_modal.pth", weights_only=False)
    places = [("config", key) for key in original["config"]] + [("config", "irreps_manual")]
    places += [("model_state_dict", key) for key in original["model_state_dict"]]
    places += [(None, key) for key in ("config", "model_state_dict", "epoch")]
    refusals = []
    for part, key in places:
        checkpoint = {**original} if part is None else {**original, part: {**original[part]}}
        (checkpoint if part is None else checkpoint[part])[key] = junk
        torch.save(checkpoint, tmp_path / "junk.pth")
        try:
            result = convert(tmp_path / "junk.pth", modal="pbe")
        except ForeignModelError as error:
            refusals.append(str(error))
        else:
            save_model(tmp_path / "m.safetensors", result.potential, result.card)
    assert len(refusals) > 10
    assert not [message for message in refusals if "\n" in message or len(message) > 400]


def test_a_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "short.pth"
    path.write_bytes((GOLDEN / "sevennet_tiny_species.pth").read_bytes()[:9000])
    assert importer_of(path) is None
    with pytest.raises(ForeignModelError, match="not a SevenNet checkpoint that can be read"):
        convert(path)
