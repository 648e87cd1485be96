"""``ase-equivariant data check``, as a user types it."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from typer.testing import CliRunner

from ase_equivariant.cli.main import app


def check(*arguments):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def crystals(count=24, sign=1.0, seed=0):
    rng = np.random.default_rng(seed)
    structures = []
    for _ in range(count):
        atoms = bulk("Cu", "fcc", a=3.65, cubic=True)
        atoms.positions += 0.03 * rng.normal(size=(4, 3))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), sign * atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        structures.append(atoms)
    return structures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sound_data_exit_with_0(folder):
    write("train.xyz", crystals())
    write("test.xyz", crystals(6, seed=1))
    result = check("train.xyz", "--test", "test.xyz")
    assert result.exit_code == 0, result.output
    assert "train: 24 frames, 24 with energy, 24 with forces" in result.output
    assert "0 errors, 0 warnings" in result.output


def test_errors_exit_with_1_and_go_to_json(folder):
    write("train.xyz", crystals(sign=-1.0))
    result = check("train.xyz", "--json", "found.json")
    assert result.exit_code == 1, result.output
    assert "error: forces: energies change by" in result.output
    assert "→ gradients? multiply them by −1 in the file" in result.output
    content = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    assert content["parts"]["train"]["elements"] == {"Cu": {"atoms": 96, "frames": 24}}
    (error,) = [f for f in content["findings"] if f["severity"] == "error"]
    assert (error["check"], error["part"], error["frames"]) == ("forces", "train", [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["absent.xyz"], "no such file"), (["train.xyz", "--units", "eVs"], "units"),
     (["train.xyz", "--energy-key", "e"], "energy_key = 'e' is in no structure"), ([], "Missing argument")],
)  # fmt: skip
def test_bad_input_exits_with_2(folder, arguments, says):
    write("train.xyz", crystals(2))
    result = check(*arguments)
    assert result.exit_code == 2
    assert says in result.output
    assert "Traceback" not in result.output


def test_help_tells_the_exit_statuses():
    text = " ".join(check("--help").output.split())
    for part in ("0 if there are no errors", "1 if there are", "2 if the files or options cannot be used"):
        assert part in text


def test_nan_is_found_where_training_refuses_to_read(folder):
    structures = crystals(3)
    structures[1].calc.results["forces"][0, 0] = np.nan
    write("train.xyz", structures)
    result = check("train.xyz")
    assert result.exit_code == 1
    assert "error: labels: forces not finite in 1 frame; frames 1" in result.output


def waters(count=4):
    rng = np.random.default_rng(0)
    structures = []
    for k in range(count):
        atoms = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        atoms.positions += 0.03 * rng.normal(size=(3, 3))
        results = {"energy": float(k), "dipole": np.ones(3), "charges": np.zeros(3)}
        atoms.calc = SinglePointCalculator(atoms, **results)
        structures.append(atoms)
    return structures


def test_a_calculators_dipole_and_charges_are_read(folder):
    structures = waters()
    write("train.traj", structures)
    result = check("train.traj")
    assert "4 frames" in result.output
    assert "not read" not in result.output
    structures[0].info["mu"] = np.ones(3)
    write("named.traj", structures)
    assert "not read: dipole\n" in check("named.traj", "--dipole-key", "mu").output
    structures[2].set_cell([9, 9, 9])
    structures[2].pbc = True
    structures[2].calc.atoms = structures[2].copy()
    write("box.traj", structures)
    assert "not read: dipole\n" in check("box.traj").output, "of a periodic structure there is none"


def test_nan_in_read_outs_is_found(folder):
    structures = waters()
    structures[1].calc.results["dipole"] = np.array([0.0, np.nan, 0.0])
    structures[2].calc.results["charges"] = np.array([np.inf, 0.0, 0.0])
    write("train.traj", structures)
    result = check("train.traj")
    assert result.exit_code == 1
    assert "error: labels: dipole not finite in 1 frame; frames 1" in result.output
    assert "error: labels: charges not finite in 1 frame; frames 2" in result.output


def test_what_files_hold_and_training_does_not_read(folder):
    structures = crystals(3)
    structures[0].info["dft_energy"] = 1.0
    structures[1].set_constraint(FixAtoms([0]))
    write("train.traj", [*structures[:2], Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]], cell=[9, 9, 0], pbc=True)])
    output = check("train.traj").output
    assert "look like labels and are not read: dft_energy" in output
    assert "constraints in 1 frame" in output
    np.savez("first.npz", R=np.eye(3)[None].repeat(4, 0), z=np.array([29] * 3), E=np.zeros(4), F=np.zeros((4, 3, 3)))
    together = check("first.npz", "train.traj").output
    assert "constraints in 1 frame: they are not read; frames 5" in together, "counted through all files"
    assert "1 frame is periodic along a direction without lattice vector; frames 2" in output


def test_unread_arrays_of_npz(folder):
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    coords = water.positions + 0.01 * np.random.default_rng(0).normal(size=(5, 3, 3))
    np.savez("a.npz", R=coords, z=water.numbers, E=np.arange(5.0), F=coords, dipole_moment=coords[:, 0], name="water")
    output = check("a.npz").output
    assert "look like labels and are not read: dipole_moment" in output
    named = check("a.npz", "--dipole-key", "dipole_moment").output
    assert "5 frames" in named
    assert "not read" not in named


def test_the_charge_of_an_ion_is_read(folder):
    ions = crystals(3)
    for atoms in ions:
        atoms.info["charge"] = 1
    write("ions.traj", ions)
    assert "not read" not in check("ions.traj").output


def test_json_writes_over_no_input(tmp_path):
    write(tmp_path / "train.xyz", crystals())
    write(tmp_path / "valid.xyz", crystals(seed=1))
    before = (tmp_path / "train.xyz").read_text()
    result = check("--json", tmp_path / "train.xyz", tmp_path / "train.xyz", tmp_path / "valid.xyz")
    assert "is an input" in str(result.exception)
    assert (tmp_path / "train.xyz").read_text() == before
