"""``ase-equivariant models``: what there is, getting it, converting one's own."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ase_equivariant import load_model
from ase_equivariant.cli.main import app
from ase_equivariant.io.catalog import CATALOG, KnownModel, WebFile
from ase_equivariant.io.model_file import ModelCard

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASE_EQUIVARIANT_CACHE", str(tmp_path / "cache"))


def run(*arguments, ok=True):
    result = CliRunner().invoke(app, ["models", *map(str, arguments)])
    assert (result.exit_code == 0) == ok, result.output
    return result


def test_list():
    rows = {row["name"]: row for row in json.loads(run("list", "--json").output)}
    assert {"ethanol", "si", "sevennet-0", "sevennet-mf-0", "nequix-oam-1-pft"} <= rows.keys()
    assert rows["si"]["installed"]
    assert not rows["sevennet-0"]["installed"]
    assert rows["sevennet-0"].keys() >= {"elements", "level_of_theory", "bytes", "license", "from", "sha256"}
    assert "sevennet-0-22may2024" in run("list").output


def test_convert_and_info(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("convert", GOLDEN / "sevennet_tiny_species.pth")
    loaded = load_model("sevennet_tiny_species.safetensors")
    assert loaded.potential.species == ("H", "C", "O", "Si")
    refused = run("convert", GOLDEN / "sevennet_tiny_species.pth", ok=False)
    assert "replace it with --overwrite" in str(refused.exception)
    run("convert", GOLDEN / "sevennet_tiny_modal.pth", "--modal", "pbe", "--output", "mine.safetensors")
    assert "modality pbe" in load_model("mine.safetensors").card.description
    info = json.loads(run("info", GOLDEN / "nequix_tiny_norm.nqx", "--json").output)
    assert info["kind"] == "nequix"
    assert "sevenn 0.13.0" in run("info", "sevennet-0").output
    assert "RMSE" in run("info", "ethanol").output


def test_get_from_a_file_and_again_after_damage(tmp_path, monkeypatch):
    file = GOLDEN / "nequix_tiny_norm.nqx"
    source = WebFile("http://127.0.0.1:9/x", file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    card = ModelCard(name="tiny", level_of_theory="PBE", license="MIT")
    monkeypatch.setitem(CATALOG, "tiny", KnownModel("tiny", source, card, 4))
    assert "tiny: " in run("get", "tiny", "--from", file).output
    assert "installed already" in run("get", "tiny").output
    (row,) = (row for row in json.loads(run("list", "--json").output) if row["name"] == "tiny")
    assert row["installed"]
    info = json.loads(run("info", "tiny", "--json").output)
    assert info["card"]["training"]["source_sha256"] == source.sha256
    with open(info["path"], "rb+") as stream:
        stream.truncate(1000)
    assert "--from FILE" in str(run("get", "tiny", ok=False).exception)  # there is nobody at this address
    run("get", "tiny", "--from", file)
    assert "installed already" in run("get", "tiny").output


def test_levels_of_theory_are_named(tmp_path):
    assert "choose modal='PBE'" in str(run("info", "sevennet-mf-0", "--modal", "LDA", ok=False).exception)
    assert "leave out modal" in str(run("info", "si", "--modal", "PBE", ok=False).exception)
    assert "r2SCAN" in run("info", "sevennet-mf-0.R2SCAN").output


def test_slips_are_named(tmp_path):
    assert "choose from sevennet-0" in str(run("get", "sevennet0", ok=False).exception)
    unknown = tmp_path / "x.pth"
    unknown.write_bytes(b"nothing")
    assert "not a model file of any kind" in str(run("convert", unknown, ok=False).exception)
