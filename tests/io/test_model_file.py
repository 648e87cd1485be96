"""Model files come back to the bit, and say what is wrong if they do not."""

from __future__ import annotations

import json
import re
from copy import deepcopy

import numpy as np
import pytest
import torch
from ase.build import molecule
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ase_equivariant import ModelCard, Potential, load_model, save_model
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.golden import check_golden, make_golden
from ase_equivariant.io.model_file import FORMAT_VERSION, ModelFileError, read_header
from ase_equivariant.potential.content_hash import content_hash, sha256_of
from ase_equivariant.testing import TEST_SYSTEMS

CARD = ModelCard(
    name="a model",
    description="Water – in Å and “quotes”",
    level_of_theory="PBE",
    training_data="none",
    data_license="CC0-1.0",
    license="MIT",
    reference_energies={"H": -13.6, "O": -2041.8},
    errors={"forces MAE (meV/Å)": 1 / 3},
    training={"seed": 1, "nested": {"lr": 1e-3, "sizes": [1, 2]}},
)


def content_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["ase_equivariant"])


def rewrite(source, target, content=None, tensors=None, metadata=None):
    """The file again with something changed, and its sha256 as it was."""
    metadata = metadata or {
        "ase_equivariant": json.dumps(content if content is not None else content_of(source), ensure_ascii=False)
    }
    save_file(tensors or load_file(source), target, metadata=metadata)
    return target


def assert_refused(path, message):
    """By one clear line that names the file."""
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


# Round trip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_round_trip_is_exact(dtype, small_potential, tmp_path):
    saved = deepcopy(small_potential).to(dtype)
    header = save_model(tmp_path / "m.safetensors", saved, CARD)
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.header == header == read_header(tmp_path / "m.safetensors")
    assert (loaded.card, loaded.potential.config) == (CARD, saved.config)
    assert loaded.potential.dtype == dtype
    assert not any(p.requires_grad for p in loaded.potential.parameters())
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.potential.state_dict()[name], tensor)
    for make in TEST_SYSTEMS.values():
        graph = atoms_to_graph(make(), saved.cutoff)
        before, after = saved(graph, stress=True), loaded.potential(graph, stress=True)
        assert all(torch.equal(before[key].nan_to_num(), after[key].nan_to_num()) for key in before)


def test_float32_model_in_float64_is_the_golden_one(small_potential, tmp_path):
    """Cast up, constants come from their float64 originals, so that golden values hold."""
    save_model(tmp_path / "m.safetensors", deepcopy(small_potential).float(), CARD)
    loaded = load_model(tmp_path / "m.safetensors")
    check_golden(loaded.potential.double(), loaded.header.golden)


def test_saving_does_not_touch_the_potential(small_potential, tmp_path):
    potential = deepcopy(small_potential).float().requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in potential.state_dict().items()}
    save_model(tmp_path / "m.safetensors", potential, CARD)
    assert potential.dtype == torch.float32
    assert all(p.requires_grad for p in potential.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in potential.state_dict().items())


def test_own_golden_structure(small_potential, tmp_path):
    atoms = molecule("CH3CH2OH")
    header = save_model(tmp_path / "m.safetensors", small_potential, CARD, golden_atoms=atoms)
    assert header.golden.symbols == tuple(atoms.symbols)
    np.testing.assert_array_equal(header.golden.atoms().positions, atoms.positions)
    load_model(tmp_path / "m.safetensors")


def test_header_contents(model_file, small_potential):
    content = content_of(model_file)
    assert set(content) == {"format_version", "config", "units", "card", "golden", "packages", "sha256"}
    assert content["format_version"] == FORMAT_VERSION
    assert content["config"]["architecture"]["species"] == ["H", "C", "O", "Si"]
    assert content["config"]["architecture"]["cutoff"] == 3.5
    assert content["units"] == {"length": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³ (tensile positive)"}
    assert {"level_of_theory", "training_data", "data_license", "license", "reference_energies"} <= set(content["card"])
    assert set(content["packages"]) == {"ase-equivariant", "torch", "ase", "matscipy", "numpy"}
    assert content["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert re.fullmatch("[0-9a-f]{64}", content["sha256"])
    golden = content["golden"]
    assert set(golden["symbols"]) == {"H", "C", "O", "Si"}
    assert np.abs(golden["forces"]).max() > 1e-3
    assert golden["energy"] == make_golden(small_potential).energy


def test_loading_leaves_the_random_generator_alone(model_file):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_model(model_file)
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_is_atomic(small_potential, tmp_path, monkeypatch):
    """A save that fails leaves the old file as it was, and nothing else."""
    path = tmp_path / "m.safetensors"
    save_model(path, small_potential, CARD)
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]
    old = path.read_bytes()

    def fail(tensors, temporary, metadata):
        temporary.write_bytes(b"half of a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr("ase_equivariant.io.model_file.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save_model(path, small_potential, CARD)
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]
    assert path.read_bytes() == old


def test_saving_makes_the_folder_and_an_ordinary_file(small_potential, tmp_path):
    path = tmp_path / "new" / "folder" / "m.safetensors"
    save_model(path, small_potential, CARD)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_content_hash_tells_models_apart(small_potential):
    other = deepcopy(small_potential)
    assert content_hash(other) == content_hash(small_potential)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-15
    assert content_hash(other) != content_hash(small_potential)
    zbl = Potential(small_potential.config.model_copy(update={"zbl_inner": 0.4}))
    zbl.load_state_dict(small_potential.state_dict())
    assert content_hash(zbl) != content_hash(small_potential)


# Files that must not be read


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no model file at {re.escape(str(path))}$"):
            load_model(path)


@pytest.mark.parametrize("keep", [0, 4, 8, 500, 0.5, 0.99, -1])
def test_truncated_file(keep, model_file, tmp_path):
    whole = model_file.read_bytes()
    size = keep if isinstance(keep, int) else int(keep * len(whole))
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[:size])
    assert_refused(path, "truncated or damaged" if size else "it is empty, get it anew")


def test_file_with_something_behind_it(model_file, tmp_path):
    path = tmp_path / "long.safetensors"
    path.write_bytes(model_file.read_bytes() + b"\0")
    assert_refused(path, "truncated or damaged")


@pytest.mark.parametrize("bits", [0xFF, 0x01])
def test_flipped_bytes_anywhere(bits, model_file, tmp_path):
    whole, path = model_file.read_bytes(), tmp_path / "flipped.safetensors"
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    places = [*range(3), *rng.integers(8, header, 40), *rng.integers(header, len(whole), 40), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= bits
        path.write_bytes(damaged)
        assert_refused(path, "")


def test_altered_tensor(model_file, tmp_path):
    tensors = load_file(model_file)
    tensors["scaling.shift"][0] += 1e-12
    assert_refused(rewrite(model_file, tmp_path / "m.safetensors", tensors=tensors), "altered .*sha256 differs")


@pytest.mark.parametrize(
    "alter",
    [
        lambda content: content["card"].update(level_of_theory="CCSD(T)"),
        lambda content: content["config"]["architecture"].update(cutoff=3.6),
        lambda content: content["golden"].update(energy=0.0),
        lambda content: content["units"].update(energy="kcal/mol"),
        lambda content: content.update(sha256="0" * 64),
    ],
)
def test_altered_header(alter, model_file, tmp_path):
    content = content_of(model_file)
    alter(content)
    assert_refused(rewrite(model_file, tmp_path / "m.safetensors", content), "altered .*sha256 differs")


def test_newer_format(model_file, tmp_path):
    content = {**content_of(model_file), "format_version": FORMAT_VERSION + 1, "future": True}
    message = f"written in format {FORMAT_VERSION + 1}, this version reads up to {FORMAT_VERSION}: upgrade"
    assert_refused(rewrite(model_file, tmp_path / "m.safetensors", content), message)


@pytest.mark.parametrize("version", [None, "1", 1.5])
def test_no_format_version(version, model_file, tmp_path):
    content = {**content_of(model_file), "format_version": version}
    assert_refused(rewrite(model_file, tmp_path / "m.safetensors", content), "states no format version")


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda content: content.pop("golden"), "golden: this key is required and missing"),
        (lambda content: content.update(extra=1), "extra: unknown key"),
        (
            lambda content: content["config"]["architecture"].update(cutoff=-1),
            r"config\.architecture\.cutoff: .*\(got -1\)",
        ),
    ],
)
def test_header_that_is_not_understood(alter, message, model_file, tmp_path):
    content = content_of(model_file)
    alter(content)
    assert_refused(rewrite(model_file, tmp_path / "m.safetensors", content), f"header is not understood: {message}")


@pytest.mark.parametrize("text", ["{", "", "[]", "3"])
def test_header_that_is_no_header(text, model_file, tmp_path):
    path = rewrite(model_file, tmp_path / "m.safetensors", metadata={"ase_equivariant": text})
    assert_refused(path, "its header (is not valid JSON|states no format version)")


def test_plain_safetensors_file(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    assert_refused(path, "a safetensors file, but not a model of ase_equivariant")
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    assert_refused(path, "a safetensors file, but not a model of ase_equivariant")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a model file: it is empty"),
        (b"cutoff = 5.0\n", "not a model file: it is a text file"),
        (b"PK\x03\x04" + bytes(300), "not a model file: it is truncated"),
        (bytes(300), "not a whole safetensors file"),
    ],
    ids=["empty", "text", "zip", "zeros"],
)
def test_other_file(content, words, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    assert_refused(path, words)


def test_pickle_is_not_opened(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    assert_refused(path, "not a whole safetensors file")


# Golden values


def resealed(model_file, target, alter):
    """A file whose sha256 is right although it was altered: only the golden values can tell."""
    content, tensors = content_of(model_file), load_file(model_file)
    alter(content, tensors)
    content["sha256"] = sha256_of(tensors, {k: v for k, v in content.items() if k != "sha256"})
    return rewrite(model_file, target, content, tensors)


def test_weights_that_are_not_the_golden_ones(model_file, tmp_path):
    def alter(content, tensors):
        tensors["network.layers.0.convolution.linear_in.weights.0e"][0, 0] += 1e-4

    path = resealed(model_file, tmp_path / "m.safetensors", alter)
    assert_refused(path, r"does not reproduce the energy and forces stored with it \(off by .* eV/atom and .* eV/Å\)")


def test_golden_forces_are_compared(model_file, tmp_path):
    def alter(content, tensors):
        content["golden"]["forces"][3][1] += 1e-5

    path = resealed(model_file, tmp_path / "m.safetensors", alter)
    assert_refused(path, "does not reproduce")


@pytest.mark.parametrize("number", [float("nan"), 1e300])
def test_weights_that_are_not_numbers(number, model_file, tmp_path):
    def alter(content, tensors):
        tensors["network.embedding"][0, 0] = number

    assert_refused(resealed(model_file, tmp_path / "m.safetensors", alter), "does not reproduce")


def test_tensors_that_do_not_fit_the_configuration(model_file, tmp_path):
    def drop(content, tensors):
        del tensors["network.embedding"]

    def widen(content, tensors):
        tensors["network.embedding"] = torch.zeros(4, 9, dtype=torch.float64)

    for name, alter, message in (("a", drop, "Missing key.*network.embedding"), ("b", widen, "size mismatch")):
        assert_refused(resealed(model_file, tmp_path / f"{name}.safetensors", alter), message)
