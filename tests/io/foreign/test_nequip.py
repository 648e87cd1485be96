"""NequIP's checkpoints and packages: the same energies, forces and stress as NequIP's calculator gives in float64."""

import json
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_equivariant import EquivariantCalculator, load_model, save_model
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.foreign.converted import ForeignModelError
from ase_equivariant.io.foreign.importing import convert_file, importer_of
from ase_equivariant.io.foreign.nequip import convert
from ase_equivariant.testing import assert_derivatives, assert_equivariant

GOLDEN = Path(__file__).resolve().parent.parent.parent / "golden"
ANSWERS = json.loads((GOLDEN / "nequip_tiny.json").read_text())
FILES = sorted([*GOLDEN.glob("nequip_tiny*.ckpt"), *GOLDEN.glob("nequip_tiny*.nequip.zip")])
PLAIN, AVERAGED, PAIRS = (GOLDEN / f"nequip_tiny{name}.ckpt" for name in ("", "_parity_ema", "_pairs_zbl"))
PACKAGE = GOLDEN / "nequip_tiny_pairs_zbl.nequip.zip"
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def largest_differences(calculator, expected):
    """Of energy per atom, forces and stress, over all structures."""
    worst = {"energy per atom": 0.0, "forces": 0.0, "stress": 0.0}
    for name, answer in expected.items():
        atoms = Atoms(**ANSWERS["structures"][name], calculator=calculator)
        found = {
            "energy per atom": (atoms.get_potential_energy() - answer["energy"]) / len(atoms),
            "forces": atoms.get_forces() - answer["forces"],
        }
        if "stress" in answer:
            found["stress"] = atoms.get_stress() - answer["stress"]
        worst = {what: max(value, np.abs(found.get(what, 0.0)).max()) for what, value in worst.items()}
    return worst


@pytest.mark.parametrize("fast", [False, True], ids=["modules", "compiled"])
@every_file
def test_models_agree_with_nequip(path, fast, check):
    """Parity, l 0 to 3, averaged weights, ZBL, cutoffs and numbers of neighbours by type, read-out perceptron."""
    expected = ANSWERS["models"][path.name.split(".")[0]]
    assert max(np.abs(answer["forces"]).max() for answer in expected.values()) > 0.01, "nothing to compare"
    calculator = EquivariantCalculator(convert(path).potential, fast=fast)
    assert calculator.is_fast == fast
    # A float32 package holds reciprocals of neighbour numbers, rounded.
    label, allowed = ("float32 package", 1e-8) if path == PACKAGE else ("", 1e-9 if fast else 1e-12)
    for what, value in largest_differences(calculator, expected).items():
        check(f"NequIP parity{', compiled' * fast} {label}: {what}", value, allowed)


def test_there_are_files_of_both_kinds():
    assert len(FILES) == 5
    assert all(importer_of(path).__name__.endswith(".nequip") for path in FILES)


def test_the_models_reach_what_they_are_for():
    averaged, pairs = convert(AVERAGED).potential, convert(PAIRS).potential
    assert any(str(ir) == "0o" for layer in averaged.network.layers for _, ir in layer.irreps_out)
    assert pairs.config.architecture.pair_cutoffs["Cu"] == {"H": 3.1}
    assert pairs.config.architecture.neighbors_per_species == {"H": 5.0, "O": 8.0, "Cu": 15.0}
    assert pairs.config.zbl_envelope_p == 4
    raw, average = (
        torch.load(AVERAGED, weights_only=True)["state_dict"][name]
        for name in ("model.sole_model.model.func.type_embed.embed_module.weight", "ema.ema_weight_0")
    )
    assert not torch.allclose(raw, average, rtol=1e-6)
    assert torch.equal(averaged.network.embedding, average)


@every_file
def test_promises(path, check):
    """Equivariant under O(3), forces and stress the derivatives of the energy."""
    potential = convert(path).potential
    atoms = Atoms(**ANSWERS["structures"]["strained"])
    graph = atoms_to_graph(atoms, potential.cutoff)
    species = potential.species_indices(graph.atomic_numbers)

    def energies(_, vectors):
        return potential.atomic_energies(species, graph.edge_index, vectors).unsqueeze(1)

    assert_equivariant(energies, "0e", "0e", positions=graph.edge_vectors)
    violation = assert_derivatives(potential, atoms, step=2e-4, num_components=2)
    check("NequIP, converted: finite differences", violation, 1e-6)


@pytest.mark.parametrize(
    ("path", "pair", "cutoff"),
    [
        (PLAIN, "CuO", 4.0),
        (AVERAGED, "CuO", 4.0),
        *((PAIRS, *end) for end in (("H2", 2.5), ("CuH", 3.1), ("Cu2", 4.0))),
    ],
)
def test_pairs_part_smoothly_where_their_cutoff_is(path, pair, cutoff):
    calculator = EquivariantCalculator(convert(path).potential, fast=False)
    atoms = Atoms(pair, [[0, 0, 0], [0, 0, 1]], calculator=calculator)

    def at(distance):
        atoms.positions[1, 2] = distance
        return atoms.get_potential_energy(), np.abs(atoms.get_forces()).max()

    apart = sum(convert(path).card.reference_energies[symbol] for symbol in atoms.symbols)
    assert abs(at(cutoff + 1e-9)[0] - apart) < 1e-12
    near, nearer = at(cutoff - 1e-1)[1], at(cutoff - 1e-2)[1]
    assert 0 < nearer < near / 30  # the envelope ends with three vanishing derivatives of its integral: as δ²


def test_saved_and_loaded_is_the_same_function(tmp_path):
    converted = convert(PAIRS)
    save_model(tmp_path / "saved.safetensors", converted.potential, converted.card)
    loaded = load_model(tmp_path / "saved.safetensors").potential
    assert loaded.config == converted.potential.config
    expected = ANSWERS["models"]["nequip_tiny_pairs_zbl"]
    assert max(largest_differences(EquivariantCalculator(loaded, fast=False), expected).values()) < 1e-12


def altered(tmp_path, change, source=PLAIN):
    checkpoint = torch.load(source, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "altered.ckpt")
    return tmp_path / "altered.ckpt"


def repacked(tmp_path, change, entry="model/eager_model.pkl"):
    """The package with another content of one entry."""
    target = tmp_path / "altered.nequip.zip"
    with zipfile.ZipFile(PACKAGE) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(entry):
                content, before = change(content), content
                assert content != before
            archive.writestr(name, content)
    return target


def refused(path, words):
    with pytest.raises(ForeignModelError, match=words) as error:
        convert_file(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_target_": "allegro.model.AllegroModel"}, "AllegroModel, which is none of NequIP's own networks"),
        ({"_target_": "nequip.model.ModelFromPackage"}, "fine-tuned from another file"),
        ({"convnet_resnet": True}, "convnet_resnet"),
        ({"convnet_nonlinearity_type": "norm"}, "only 'gate' can be represented"),
        ({"convnet_nonlinearity_scalars": {"e": "tanh", "o": "tanh"}}, "scalars are activated by"),
        ({"readout_mlp_hidden_layers_depth": 1, "readout_mlp_nonlinearity": "gelu"}, "read-out is activated by gelu"),
        ({"categorical_graph_field_embed": [{"field": "charge"}]}, "properties of the whole structure"),
        ({"pair_potential": {"_target_": "nequip.nn.pair_potential.LennardJones"}}, "its pair potential is .*Jones"),
        ({"pair_potential": {"_target_": "nequip.nn.pair_potential.ZBL", "units": "real"}}, "units 'real', not in eV"),
        ({"type_names": ["H", "O", "X1"]}, "must be chemical symbols, which 'X1' is not"),
        ({"num_features": 4}, "its settings ask for"),
        ({"num_features": 10**9}, "its settings ask for 1000000000 channels"),
        ({"num_layers": 3}, "its settings have 3 layers, its tensors 2"),
        ({"num_layers": 10**12}, "which no network has"),
        ({"r_max": 5.0}, "_rmax_recip is not what its settings make it"),
        ({"radial_depth": 1, "num_layer": 2}, "radial_depth: unknown key.*; num_layer: unknown key"),
    ],
)
def test_what_cannot_be_represented_is_refused_with_the_reason(tmp_path, changes, words):
    refused(altered(tmp_path, lambda checkpoint: checkpoint["hyper_parameters"]["model"].update(changes)), words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pickled: pickled.replace(b"activation\nSiLU\n", b"activation\nGELU\n"), "is activated by GELU"),
        (
            lambda pickled: pickled.replace(b"functional\nsilu\n", b"functional\ngelu\n"),
            "by .*gelu where ours does by silu",
        ),
        (lambda pickled: pickled.replace(b"_gate\nGate\n", b"_norm\nNorm\n"), "its nonlinearity is Norm"),
        (lambda pickled: pickled.replace(b"potential\nZBL\n", b"potential\nLennardJones\n"), "LennardJones"),
        (lambda pickled: pickled[: len(pickled) // 2], "is damaged"),
    ],
)
def test_packages_that_compute_something_else_are_refused(tmp_path, change, words):
    refused(repacked(tmp_path, change), words)


@pytest.mark.parametrize("version", ["0.16.2", "0.20.0", "1.19.0"])
def test_files_of_other_versions_are_refused(tmp_path, version):
    """Defaults and meanings of settings have changed from version to version."""
    old = altered(tmp_path, lambda c: c["hyper_parameters"]["info_dict"]["versions"].update(nequip=version))
    refused(old, f"made by nequip {version}; files of 0.17, 0.18, 0.19 are understood")
    package = repacked(tmp_path, lambda text: text.replace(b"0.19.1", version.encode()), "model/package_metadata.txt")
    refused(package, f"made by nequip {version}")


def test_modalities_tensors_and_damage(tmp_path):
    with pytest.raises(ForeignModelError, match="no modalities"):
        convert(FILES[0], modal="PBE")
    name = "model.sole_model.model.func.extra"
    refused(
        altered(tmp_path, lambda c: c["state_dict"].update({name: torch.ones(2)})), "a tensor extra that is not known"
    )
    refused(altered(tmp_path, lambda c: c["state_dict"].update({name: "text"})), "extra is not a tensor")
    name = "ema.ema_weight_3"
    refused(altered(tmp_path, lambda c: c["state_dict"].pop(name), AVERAGED), "averaged weights are not those")
    module = {"_target_": "nequip.train.ScheduleFreeLightningModule"}
    schedule_free = altered(tmp_path, lambda c: c["hyper_parameters"]["info_dict"]["training_module"].update(module))
    refused(schedule_free, "trained by nequip.train.ScheduleFree.*nequip-package build")
    short = tmp_path / "short.ckpt"
    short.write_bytes(PLAIN.read_bytes()[:5000])
    with pytest.raises(ForeignModelError, match="not a zip archive"):
        convert(short)


@pytest.mark.parametrize("junk", [None, 7, "text", [], {}, [[None]], {"a": {}}, -1, 1e300], ids=repr)
def test_junk_in_any_place_is_refused_or_means_nothing(tmp_path, junk):
    """Whatever stands where a setting, or a part of the checkpoint, should be."""
    keys = [
        *torch.load(PLAIN, weights_only=True)["hyper_parameters"]["model"],
        "per_edge_type_cutoff",
        "feature_irreps_hidden",
    ]
    changes = [lambda c, key=key: c["hyper_parameters"]["model"].update({key: junk}) for key in keys]
    changes += [lambda c, key=key: c.update({key: junk}) for key in ("hyper_parameters", "state_dict")]
    changes += [lambda c, key=key: c["hyper_parameters"].update({key: junk}) for key in ("model", "info_dict")]
    for change in changes:
        # Some mean what nequip does without them; anything but a refusal escapes and fails.
        with suppress(ForeignModelError):
            convert(altered(tmp_path, change))


def attack(mark):
    """Opcodes that run a shell command when Python unpickles them, and leave nothing behind."""
    return b"cos\nsystem\n" + pickle.dumps((f"touch {mark}",), protocol=2)[2:-1] + b"R0"


def test_a_malicious_checkpoint_or_package_runs_nothing(tmp_path):
    mark = tmp_path / "mark"
    pickle.loads(b"\x80\x02" + attack(mark) + b"N.")
    assert mark.exists(), "the attack does not work"
    mark.unlink()

    package = repacked(tmp_path, lambda pickled: pickled[:2] + attack(mark) + pickled[2:])
    with zipfile.ZipFile(package, "a") as archive:  # the sources that a package brings are code, too
        archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/nequip/__init__.py", f"open({str(mark)!r}, 'w')")
    refused(package, "asks for os.system, which no model needs")

    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    refused(
        altered(tmp_path, lambda checkpoint: checkpoint["hyper_parameters"].update(extra=Attack())),
        r"asks for \w+\.system, which no model needs",
    )
    assert not mark.exists()
