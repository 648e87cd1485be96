"""The command line, as a user types it."""

import json
import subprocess
import sys

import pytest
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

import ase_equivariant
from ase_equivariant.cli.main import app

runner = CliRunner()


def run(*arguments: str):
    return runner.invoke(app, [str(a) for a in arguments])


def run_process(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ase_equivariant.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_help_and_version():
    assert "train" in run("--help").output
    assert ase_equivariant.__version__ in run("--version").output


def test_info():
    result = run("info", "ethanol")
    assert result.exit_code == 0
    assert "PBE" in result.output
    content = json.loads(run("info", "ethanol", "--json").output)
    assert content["card"]["name"] == "ethanol"
    assert content["parameters"] > 1000
    assert len(content["sha256"]) == 64


def test_md_writes_and_restarts(tmp_path):
    arguments = ("md", "ethanol", "molecule:CH3CH2OH", "--output-dir", tmp_path, "--interval", 10, "--seed", 1)
    result = run(*arguments, "--steps", 20)
    assert result.exit_code == 0, result.output
    assert "ns/day" in result.output
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"CH3CH2OH.md.extxyz", "CH3CH2OH.md.csv", "CH3CH2OH.md.png", "CH3CH2OH.restart.npz"}
    assert (tmp_path / "CH3CH2OH.md.png").read_bytes().startswith(b"\x89PNG")
    assert run(*arguments, "--steps", 40, "--restart").exit_code == 0
    assert [frame.info["step"] for frame in read(tmp_path / "CH3CH2OH.md.extxyz", ":")] == [0, 10, 20, 30, 40]
    assert isinstance(run(*arguments, "--steps", 20).exception, FileExistsError)


def test_relax_file_and_cell(tmp_path):
    source = tmp_path / "mine.xyz"
    write(source, molecule("CH3CH2OH"))
    result = run("relax", "ethanol", source, "--output-dir", tmp_path, "--fmax", 0.05)
    assert result.exit_code == 0, result.output
    assert "converged" in result.output
    assert len(read(tmp_path / "mine.relaxed.extxyz")) == 9
    result = run("relax", "si", "bulk:Si", "--cell", "--output-dir", tmp_path, "--fmax", 0.01, "--format", "cif")
    assert result.exit_code == 0, result.output
    assert "volume" in result.output
    assert (tmp_path / "Si.relaxed.cif").exists()


def test_relax_says_when_it_did_not_converge(tmp_path):
    result = run("relax", "ethanol", "molecule:CH3CH2OH", "--output-dir", tmp_path, "--steps", 1)
    assert result.exit_code == 2
    assert "NOT converged" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("info", "ethanl"), "did you mean 'ethanol'"),
        (("md", "ethanol", "nowhere.xyz"), "no such file"),
        (("md", "ethanol", "molecule:CH3CH2OH", "--ensemble", "nvt"), "'nve', 'langevin'"),
        (("md", "ethanol", "bulk:Si", "--steps", "1"), "does not know Si"),
        (("relax", "ethanol", "molecule:CH3CH2OH", "--optimizer", "Newton"), "choose one of BFGS"),
        (("train", "nowhere.toml"), "no such file"),
    ],
)
def test_an_error_is_one_line(arguments, words, tmp_path):
    if arguments[0] in ("md", "relax"):
        arguments = (*arguments, "--output-dir", tmp_path)
    result = run_process(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_debug_shows_the_traceback():
    assert "Traceback" in run_process("--debug", "info", "ethanl").stderr
