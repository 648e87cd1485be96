"""``ase-equivariant models``: what there is, getting it, converting one's own."""

import errno
import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ase_equivariant import EquivariantCalculator, load_model
from ase_equivariant.cli.main import app
from ase_equivariant.io.catalog import CATALOG, KnownModel, WebFile
from ase_equivariant.io.file_kind import name_of_model
from ase_equivariant.io.model_file import ModelCard
from ase_equivariant.io.registry import shipped_models

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


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("cell.nequip.zip", "cell"),
        ("v1.2.nequip.zip", "v1.2"),
        ("best.ckpt", "best"),
        ("my.model.PTH", "my.model"),
        ("a.pth.zip", "a"),
        (".pth", ".pth"),
        ("noble", "noble"),
    ],
)
def test_names_lose_what_only_says_the_kind(name, plain):
    assert name_of_model(Path("there") / name) == plain


def test_converted_files_are_named_after_the_model_and_replace_nothing_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(GOLDEN / "nequip_tiny_parity_ema.nequip.zip", "cell.nequip.zip")
    shutil.copy(GOLDEN / "sevennet_tiny_modal.pth", "film.pth")
    run("convert", "cell.nequip.zip")
    assert load_model("cell.safetensors").card.name == "cell"
    written = Path("cell.safetensors").stat().st_mtime_ns
    assert "cell.safetensors exists: replace it with --overwrite" in error("convert", "cell.nequip.zip")
    assert Path("cell.safetensors").stat().st_mtime_ns == written
    run("convert", "cell.nequip.zip", "--overwrite")
    assert Path("cell.safetensors").stat().st_mtime_ns > written
    run("convert", "film.pth", "--modal", "scan")
    assert load_model("film.scan.safetensors").card.name == "film-scan"
    Path("folder").mkdir()
    run("convert", "film.pth", "--modal", "pbe", "--output", "folder")
    assert [path.name for path in Path("folder").iterdir()] == ["film.pbe.safetensors"]
    same = error("convert", "film.pth", "--modal", "pbe", "--output", "folder/../film.pth", "--overwrite")
    assert "is the file to be converted" in same
    assert Path("film.pth").read_bytes() == (GOLDEN / "sevennet_tiny_modal.pth").read_bytes()
    assert "Not a directory: 'film.pth'" in error("convert", "cell.nequip.zip", "--output", "film.pth/x.safetensors")
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """With the name of the file that is asked for, not that of the temporary one beside it."""

    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied", "folder/.x.safetensors.a1b2")

    monkeypatch.setattr("ase_equivariant.io.atomic.tempfile.mkstemp", refuse)
    words = error("convert", GOLDEN / "sevennet_tiny_species.pth", "--output", tmp_path / "x.safetensors")
    assert words == f"[Errno 13] Permission denied: '{tmp_path / 'x.safetensors'}'"


def error(*arguments):
    """The line a user reads."""
    refused = run(*arguments, ok=False)
    assert isinstance(refused.exception, (ValueError, OSError)), refused.exception  # what main() prints as one line
    words = str(refused.exception)
    assert "\n" not in words
    return words


WEB_PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
SLIPS = {
    "zero": (b"", "it is empty, get it anew"),
    "page": (WEB_PAGE, "it is a web page that came in its place"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "text": ("42\nSilizium, zwölf Å\n".encode() * 100, "it is a text file"),
    "noise": (bytes(range(256)) * 20, "not a "),
    "bare": (pickle.dumps({}), "it is a bare pickle"),
    "cut": ((GOLDEN / "sevennet_tiny_species.pth").read_bytes()[:9000], "it is truncated, get it anew"),
}


@pytest.mark.parametrize("ending", ["pth", "nequip.zip", "nqx", "ckpt", "safetensors", "xyz"])
@pytest.mark.parametrize("slip", SLIPS)
def test_other_files_are_called_what_they_are(slip, ending, tmp_path):
    content, words = SLIPS[slip]
    path = tmp_path / f"{slip}.{ending}"
    path.write_bytes(content)
    refusals = [error("convert", path, "--output", tmp_path / "x.safetensors"), error("info", path)]
    for refusal in refusals:
        assert str(path) in refusal
        assert words in refusal
    with pytest.raises(ValueError, match=words):  # in Python, too
        EquivariantCalculator(path)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [path.name]


def test_models_of_this_package_need_no_conversion(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(shipped_models()["si"], "mine.pth")
    assert "models of this package are used as they are" in error("convert", "mine.pth", "--output", "x")
    assert "Silicon" in run("info", "mine.pth").output


def test_slips_are_named(tmp_path, monkeypatch):
    assert "choose from sevennet-0" in error("get", "sevennet0")
    monkeypatch.chdir(tmp_path)
    Path("folder.pth").mkdir()
    Path("away.pth").symlink_to("nowhere.pth")
    for name in ("missing.pth", "away.pth"):
        assert error("convert", name) == f"no file at {name}"
        assert f"no model named '{name}' and no such file" in error("info", name)
    for command in ("convert", "info"):
        assert error(command, "folder.pth") == "folder.pth is a folder: name the model file in it"
    assert "did you mean 'sevennet-mf-0.PBE'" in error("info", "sevennet-mf-0.LDA")
