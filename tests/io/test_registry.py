"""Models by name or path, with a hint for slips."""

from __future__ import annotations

from pathlib import Path

import pytest

from ase_equivariant import load_model
from ase_equivariant.io import registry
from ase_equivariant.io.model_file import read_header
from ase_equivariant.io.open_model import open_model
from ase_equivariant.io.registry import ModelNotFoundError, resolve, shipped_models


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """An installed folder and a source tree with some models."""
    installed, source = tmp_path / "_models", tmp_path / "models"
    for folder, names in ((installed, ["water", "silicon"]), (source, ["water", "ethanol"])):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.safetensors").write_text(name)
    (source / "ethanol.md").touch()
    monkeypatch.setattr(registry, "_FOLDERS", (installed, source))
    return installed, source


def test_names(folders):
    installed, source = folders
    assert set(shipped_models()) == {"water", "silicon", "ethanol"}
    assert resolve("silicon") == installed / "silicon.safetensors"
    assert resolve("ethanol") == source / "ethanol.safetensors"
    assert resolve("water") == installed / "water.safetensors"


def test_paths(folders, tmp_path, monkeypatch):
    file = tmp_path / "mine.safetensors"
    file.touch()
    assert resolve(file) == resolve(str(file)) == file
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/mine.safetensors") == file


def test_a_folder_of_the_same_name_does_not_hide_a_model(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ethanol").mkdir()
    assert resolve("ethanol").stem == "ethanol"


def test_slips(folders):
    with pytest.raises(ModelNotFoundError) as caught:
        resolve("ethnol")
    assert str(caught.value).startswith(
        "no model named 'ethnol' and no such file; did you mean 'ethanol'? shipped models: "
    )
    with pytest.raises(FileNotFoundError, match=r"no such file; shipped models: .*silicon"):
        resolve("/nowhere/qqq.safetensors")


def test_what_names_no_model(folders):
    with pytest.raises(ModelNotFoundError, match=r"^no model named '' and no such file; shipped models: "):
        resolve("")
    with pytest.raises(IsADirectoryError, match=r"^\. is a folder: name the model file in it$"):
        resolve(".")
    with pytest.raises(TypeError, match=r"^model = None: give the name of a model, the path of a model file, or a Pot"):
        open_model(None)


def test_shipped_models_are_there():
    """Those that the package promises; they load, which checks their golden values."""
    assert {"ethanol", "si"} <= set(shipped_models())
    for name, path in shipped_models().items():
        assert load_model(path).card.name == {"ethanol": "rmd17-ethanol"}.get(name, name)


def test_cards_of_shipped_models_are_complete():
    for path in shipped_models().values():
        card = read_header(path).card
        stated = (card.level_of_theory, card.training_data, card.test_data, card.license, card.data_license)
        assert "not stated" not in stated, f"{card.name}: {stated}"
        assert card.errors, f"{card.name} states no errors"
        assert card.reference_energies


def test_a_file_that_hides_a_model_is_said_to(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "silicon").write_text("an output of something else")
    with pytest.raises(ValueError, match="it hides the model of this name: rename the file"):
        resolve("silicon")
