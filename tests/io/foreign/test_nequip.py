"""NequIP's checkpoints and packages: the same energies, forces and stress as NequIP's calculator gives in float64."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from ase_equivariant import EquivariantCalculator
from ase_equivariant.io.foreign.converted import ForeignModelError
from ase_equivariant.io.foreign.importing import convert_file, importer_of
from ase_equivariant.io.foreign.nequip import convert
from ase_equivariant.testing import assert_derivatives

GOLDEN = Path(__file__).resolve().parent.parent.parent / "golden"
ANSWERS = json.loads((GOLDEN / "nequip_tiny.json").read_text())
FILES = sorted([*GOLDEN.glob("nequip_tiny*.ckpt"), *GOLDEN.glob("nequip_tiny*.nequip.zip")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_models_agree_with_nequip(path, check):
    """Parity, l 0 to 3, averaged weights, ZBL, cutoffs and numbers of neighbours by type, read-out perceptron."""
    expected = ANSWERS["models"][path.name.split(".")[0]]
    assert max(np.abs(answer["forces"]).max() for answer in expected.values()) > 0.01, "nothing to compare"
    potential = convert(path).potential
    for fast in (False, True):
        # A float32 package holds rounded reciprocals of neighbour numbers.
        rounded = path.name == "nequip_tiny_pairs_zbl.nequip.zip"
        allowed, suffix = (1e-8 if rounded else 1e-9 if fast else 1e-12), ", compiled" if fast else ""
        calculator = EquivariantCalculator(potential, fast=fast)
        assert calculator.is_fast == fast
        for name, answer in expected.items():
            atoms = Atoms(**ANSWERS["structures"][name], calculator=calculator)
            energy = abs(atoms.get_potential_energy() - answer["energy"]) / len(atoms)
            suffix += ", rounded package" if rounded and "rounded" not in suffix else ""
            check(f"NequIP parity{suffix}: energy per atom", energy, allowed)
            check(f"NequIP parity{suffix}: forces", np.abs(atoms.get_forces() - answer["forces"]).max(), allowed)
            if "stress" in answer and atoms.pbc.all():
                check(f"NequIP parity{suffix}: stress", np.abs(atoms.get_stress() - answer["stress"]).max(), allowed)


def test_there_are_files_of_both_kinds():
    assert len(FILES) == 5
    assert all(importer_of(path).__name__.endswith(".nequip") for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_derivatives_of_converted_models(path, check):
    atoms = Atoms(**ANSWERS["structures"]["strained"])
    violation = assert_derivatives(convert(path).potential, atoms, step=2e-4, num_components=2)
    check("NequIP, converted: finite differences", violation, 1e-6)


def altered(tmp_path, change):
    checkpoint = torch.load(GOLDEN / "nequip_tiny.ckpt", weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "altered.ckpt")
    return tmp_path / "altered.ckpt"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("_target_", "allegro.model.AllegroModel", "which is none of NequIP's own networks"),
        ("convnet_resnet", True, "convnet_resnet"),
        ("type_names", ["H", "O", "X1"], "must be chemical symbols"),
        ("num_features", 4, "its settings ask for"),
    ],
)
def test_what_cannot_be_represented_is_refused_with_the_reason(tmp_path, key, value, words):
    path = altered(tmp_path, lambda checkpoint: checkpoint["hyper_parameters"]["model"].update({key: value}))
    with pytest.raises(ForeignModelError, match=words) as error:
        convert_file(path)
    assert "\n" not in str(error.value)


def test_modalities_tensors_and_damage(tmp_path):
    with pytest.raises(ForeignModelError, match="no modalities"):
        convert(FILES[0], modal="PBE")
    path = altered(tmp_path, lambda c: c["state_dict"].update({"model.sole_model.model.func.extra": torch.ones(2)}))
    with pytest.raises(ForeignModelError, match="a tensor extra that is not known"):
        convert_file(path)
    short = tmp_path / "short.ckpt"
    short.write_bytes((GOLDEN / "nequip_tiny.ckpt").read_bytes()[:5000])
    with pytest.raises(ForeignModelError, match="not a zip archive"):
        convert(short)


class Attack:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_malicious_checkpoint_or_package_runs_nothing(tmp_path):
    import pickle

    mark = tmp_path / "mark"
    path = altered(tmp_path, lambda checkpoint: checkpoint["hyper_parameters"].update(extra=Attack(mark)))
    convert_file(path)  # the record is of no consequence
    package = tmp_path / "bad.nequip.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("bad/model/eager_model.pkl", pickle.dumps(Attack(mark), protocol=2))
        archive.writestr("bad/model/x.py", f"open({str(mark)!r}, 'w')")
    with pytest.raises(ForeignModelError, match="is not a module"):
        convert_file(package)
    assert not mark.exists()
