"""``ase-equivariant models``: what there is, getting it, converting one's own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ase_equivariant import load_model
from ase_equivariant.cli.main import app

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


def test_slips_are_named(tmp_path):
    assert "choose from sevennet-0" in str(run("get", "sevennet0", ok=False).exception)
    unknown = tmp_path / "x.pth"
    unknown.write_bytes(b"nothing")
    assert "not a model file of any kind" in str(run("convert", unknown, ok=False).exception)
