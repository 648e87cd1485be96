"""Nequix files: the same energies, forces and stress as Nequix itself gives in float64."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.special import erfinv

from ase_equivariant import EquivariantCalculator, load_model, save_model
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.foreign.converted import ForeignModelError
from ase_equivariant.io.foreign.importing import convert_file, importer_of
from ase_equivariant.io.foreign.nequix import E3NN_JAX_SILU, convert, recognizes
from ase_equivariant.testing import assert_derivatives, assert_equivariant

GOLDEN = Path(__file__).resolve().parent.parent.parent / "golden"
TINY = sorted(GOLDEN.glob("nequix_tiny_*.nqx"))
# eV/atom, eV/Å, eV/Å³.
ALLOWED = {"energy per atom": 1e-8, "forces": 1e-7, "stress": 1e-9}


def violations(calculator, structures, answers):
    """Largest difference from ``answers`` in energy per atom, forces and stress."""
    worst = dict.fromkeys(ALLOWED, 0.0)
    for name, answer in answers.items():
        atoms = Atoms(**structures[name], calculator=calculator)
        differences = {
            "energy per atom": abs(atoms.get_potential_energy() - answer["energy"]) / len(atoms),
            "forces": np.abs(atoms.get_forces() - answer["forces"]).max(),
        }
        if "stress" in answer:
            differences["stress"] = np.abs(atoms.get_stress() - answer["stress"]).max()
        worst = {key: max(value, differences.get(key, 0.0)) for key, value in worst.items()}
    return worst


@pytest.mark.parametrize("path", TINY, ids=lambda path: path.stem)
def test_small_models_agree_with_nequix(path, check):
    """Random models with and without norm, with one skip matrix and one per species, irreps out of order."""
    golden = json.loads((GOLDEN / "nequix_tiny.json").read_text())
    answers = golden["models"][path.name]["answers"]
    assert max(np.abs(answer["forces"]).max() for answer in answers.values()) > 0.1, "nothing to compare"
    for fast, allowed in ((False, 1e-12), (True, 1e-9)):
        calculator = EquivariantCalculator(convert(path).potential, fast=fast)
        for what, value in violations(calculator, golden["structures"], answers).items():
            check(f"Nequix parity, small models{', compiled' if fast else ''}: {what}", value, allowed)


def test_there_are_small_models():
    assert {path.stem for path in TINY} == {"nequix_tiny_norm", "nequix_tiny_indexed", "nequix_tiny_l3"}


def test_second_moment_is_that_over_quantiles():
    quantiles = np.sqrt(2) * erfinv(np.linspace(-1, 1, 1_000_003)[1:-1])
    silu = quantiles / (1 + np.exp(-quantiles))
    assert abs(1 / np.sqrt(np.mean(silu**2)) - E3NN_JAX_SILU) < 1e-13


def test_what_is_known_of_it():
    converted = convert(TINY[0])
    assert converted.potential.species == ("H", "C", "O", "Si")
    assert converted.modalities == ()
    assert set(converted.card.reference_energies) == {"H", "C", "O", "Si"}
    assert converted.potential.dtype == torch.float64
    assert not any(p.requires_grad for p in converted.potential.parameters())


def test_converting_leaves_the_random_generator_alone():
    before = torch.random.get_rng_state()
    convert(TINY[0])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("path", TINY, ids=lambda path: path.stem)
def test_promises(path):
    potential = convert(path).potential
    atoms = bulk("Si", cubic=True)
    atoms.symbols[:4] = "HCOC"
    atoms.rattle(0.1, seed=3)
    graph = atoms_to_graph(atoms, potential.cutoff)
    species = potential.species_indices(graph.atomic_numbers)

    def energies(_, vectors):
        return potential.atomic_energies(species, graph.edge_index, vectors).unsqueeze(1)

    assert_equivariant(energies, "0e", "0e", positions=graph.edge_vectors)
    assert_derivatives(potential, atoms, num_components=6)


def test_saved_and_loaded_is_the_same_function(tmp_path):
    converted = convert(TINY[0])
    save_model(tmp_path / "saved.safetensors", converted.potential, converted.card)
    loaded = load_model(tmp_path / "saved.safetensors")
    assert loaded.potential.dtype == torch.float64
    for saved, original in zip(loaded.potential.parameters(), converted.potential.parameters(), strict=True):
        assert torch.equal(saved, original)


def test_recognized_by_content(tmp_path, model_file):
    assert all(recognizes(path) for path in TINY)
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(TINY[0].read_bytes())
    assert importer_of(renamed).__name__.endswith("nequix")
    others = {
        "json": b'{"a": 1}\n',
        "list": b"[1, 2]\n",
        "binary": bytes(range(256)),
        "empty": b"",
        "zip": b"PK\x03\x04",
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
        assert not recognizes(tmp_path / name), name
    assert not recognizes(model_file)
    assert not recognizes(tmp_path / "nowhere")


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def with_array(content: bytes, array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    """A file's header with ``array`` as its first."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return content[: content.index(b"\n") + 1] + stream.getvalue()


def test_nothing_is_unpickled(tmp_path):
    proof = tmp_path / "executed"
    pickle.loads(pickle.dumps(Evil(tmp_path / "the trap works")))
    assert (tmp_path / "the trap works").exists()
    trap = tmp_path / "evil.nqx"
    trap.write_bytes(with_array(TINY[0].read_bytes(), np.array([Evil(proof)] * 4, dtype=object), allow_pickle=True))
    with pytest.raises(ForeignModelError, match="floating-point"):
        convert(trap)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(5, np.float32), r"atom_energies has shape \(5,\) where its configuration asks for \(4,\)"),
        (np.full(4, np.nan, np.float32), "not finite"),
        (np.zeros(4, np.int64), "floating-point"),
        (np.zeros(4, np.longdouble), "floating-point"),
    ],
)
def test_wrong_arrays(array, words, tmp_path):
    (tmp_path / "wrong.nqx").write_bytes(with_array(TINY[0].read_bytes(), array))
    with pytest.raises(ForeignModelError, match=words):
        convert(tmp_path / "wrong.nqx")


@pytest.mark.parametrize("kept", [0.15, 0.5, 0.99, 0.9999])
def test_truncated(kept, tmp_path):
    content = TINY[0].read_bytes()
    (tmp_path / "cut.nqx").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ForeignModelError, match=r"cut\.nqx: .*(ends|truncated)"):
        convert(tmp_path / "cut.nqx")


def test_what_follows_the_model_is_left_alone(tmp_path):
    """A published file has its configuration once more behind the weights."""
    (tmp_path / "longer.nqx").write_bytes(TINY[0].read_bytes() + b"\x93NUMPY more of it")
    longer, original = convert(tmp_path / "longer.nqx").potential, convert(TINY[0]).potential
    assert all(torch.equal(a, b) for a, b in zip(longer.parameters(), original.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_irreps": "4x0e+3x1e+2x2e"}, "its first layer cannot reach 1e"),
        ({"hidden_irreps": "4x0e+3x0o"}, "its first layer cannot reach 0o"),
        ({"hidden_irreps": "4x0e+3x3o"}, "its first layer cannot reach 3o"),
        ({"hidden_irreps": "nonsense"}, "not in e3nn's notation"),
        ({"atomic_numbers": [0, 1, 2, 3]}, "atomic_numbers"),
        ({"cutoff": None}, "cutoff"),
        ({"cutoff": -1.0}, "cutoff"),
        ({"n_layers": 0}, "num_layers"),
    ],
)
def test_configurations_that_cannot_be(changes, words, tmp_path):
    header, _, arrays = (GOLDEN / "nequix_tiny_norm.nqx").read_bytes().partition(b"\n")
    path = tmp_path / "changed.nqx"
    path.write_bytes(json.dumps(json.loads(header) | changes).encode() + b"\n" + arrays)
    with pytest.raises(ForeignModelError, match=words) as caught:
        convert(path)
    assert "\n" not in str(caught.value)


def test_it_has_one_level_of_theory():
    with pytest.raises(ForeignModelError, match="leave out modal='PBE'"):
        convert(TINY[0], modal="PBE")


def test_files_of_no_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("not a model")
    with pytest.raises(ForeignModelError, match=r"notes\.txt is not a model file of any kind .*nequix"):
        convert_file(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="no file at"):
        convert_file(tmp_path / "nowhere.nqx")
