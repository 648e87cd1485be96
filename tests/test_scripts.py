"""The user programs in scripts/, run in small form as a user would."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import read
from ase.units import kcal, mol

SCRIPTS = Path(__file__).parent.parent / "scripts"


def run(name: str, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_langevin_md(tmp_path):
    output = run("langevin_md.py", "--steps", 100, cwd=tmp_path)
    assert "temperature" in output
    assert len(read(tmp_path / "ethanol.traj", ":")) == 6


def test_relax(tmp_path):
    output = run("relax.py", "--fmax", 0.02, cwd=tmp_path)
    assert "converged: True" in output


def test_train_md17(tmp_path):
    rng = np.random.default_rng(0)
    water = molecule("H2O")
    coords, energies, forces = [], [], []
    for _ in range(24):
        atoms = water.copy()
        atoms.positions += rng.normal(scale=0.03, size=(3, 3))
        atoms.calc = EMT()
        coords.append(atoms.positions)
        energies.append(atoms.get_potential_energy() / (kcal / mol))
        forces.append(atoms.get_forces() / (kcal / mol))
    np.savez(tmp_path / "water.npz", nuclear_charges=water.numbers, coords=coords, energies=energies, forces=forces)
    arguments = ("water.npz", "--epochs", 3, "--validation", 4, "--irreps", "4x0e+4x1o", "--l-max", 1)
    output = run("train_md17.py", *arguments, cwd=tmp_path)
    assert "forces MAE" in output
    assert (tmp_path / "runs" / "md17" / "md17.safetensors").exists()


def test_programs_are_short():
    for path in SCRIPTS.glob("*.py"):
        assert 20 <= len(path.read_text().splitlines()) <= 60, path.name


def test_physical_checks(tmp_path):
    pytest.importorskip("phonopy")
    shutil.copy(SCRIPTS.parent / "models" / "si.safetensors", tmp_path)
    run("physical_checks.py", "si", "--models", tmp_path, cwd=tmp_path)
    content = json.loads((tmp_path / "si-physics.json").read_text())
    known = content["system"]["literature"]["C_GPa"]["C11"]
    assert content["found"]["elastic"]["C_GPa"][0][0] == pytest.approx(known, rel=0.1)
    assert (tmp_path / "si-physics.png").exists()
