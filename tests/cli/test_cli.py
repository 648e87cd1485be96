"""The command line, as a user types it."""

import json
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule, surface
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCartesian
from ase.io import read, write
from typer.testing import CliRunner

import ase_equivariant
from ase_equivariant.cli.main import app
from ase_equivariant.recipes.ensembles import MDSettings
from ase_equivariant.recipes.relax import relax

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
    assert content["card"]["name"] == "rmd17-ethanol"  # for which "ethanol" is short
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


def test_brackets_are_no_markup(tmp_path):
    """Neither in names of files nor in help."""
    write(tmp_path / "c[red]x.xyz", molecule("CH3CH2OH"))
    shown = run("relax", "ethanol", tmp_path / "c[red]x.xyz", "--output-dir", tmp_path).output
    assert "c[red]x.relaxed.extxyz" in "".join(shown.split())  # lines break anywhere
    assert (tmp_path / "c[red]x.relaxed.extxyz").is_file()
    assert "'ase-equivariant[lammps]'" in run("lammps", "run", "--help").output


def test_relax_folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("b", "a", ".hidden"):
        write(tmp_path / "in" / f"{name}.xyz", molecule("CH3CH2OH"))
    result = run("relax", "ethanol", tmp_path / "in", "--output-dir", tmp_path, "--fmax", 0.3)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.glob("*.relaxed.extxyz")} == {"a.relaxed.extxyz", "b.relaxed.extxyz"}
    (tmp_path / "empty").mkdir()
    assert "there is no file in this folder" in str(run("relax", "ethanol", tmp_path / "empty").exception)


def test_nothing_is_written_over_that_is_not_to_be_replaced(tmp_path):
    words = ("--output-dir", tmp_path, "--fmax", 0.3)
    earlier = tmp_path / "a.relax.extxyz"  # the name of the trajectory of any structure "a"
    write(earlier, molecule("CH3CH2OH"))
    before = earlier.read_bytes()
    write(tmp_path / "a.xyz", molecule("CH3CH2OH"))
    assert "a.relax.extxyz exists: replace" in str(run("relax", "ethanol", tmp_path / "a.xyz", *words).exception)
    result = run("relax", "ethanol", earlier, *words, "--overwrite")
    assert "is an input: choose another --output-dir" in str(result.exception)
    (tmp_path / "b.relaxed.extxyz").symlink_to(tmp_path / "b.xyz")
    (tmp_path / "b.xyz").write_bytes(before)
    result = run("relax", "ethanol", tmp_path / "b.xyz", *words, "--overwrite")
    assert "is an input" in str(result.exception)
    assert earlier.read_bytes() == (tmp_path / "b.xyz").read_bytes() == before
    assert run("relax", "ethanol", tmp_path / "a.xyz", *words, "--overwrite").exit_code == 0
    assert len(read(earlier, ":")) > 1
    earlier.rename(tmp_path / "a.md.extxyz")
    result = run("md", "ethanol", tmp_path / "a.md.extxyz", *words[:2], "--steps", 1, "--overwrite")
    assert "is an input" in str(result.exception)
    (tmp_path / "a.md.extxyz").rename(tmp_path / "a.torsion.extxyz")
    result = run("torsion", "ethanol", tmp_path / "a.torsion.extxyz", *"0123", *words)
    assert "is an input" in str(result.exception)


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
        (("relax", "ethanol", "molecule:CH3CH2OH", "--format", "foo"), "relaxed.foo: ASE cannot write it"),
        (("relax", "si", "bulk:Si", "--pressure", "5"), "relax it too (--cell)"),
        (("md", "ethanol", "molecule:CH3CH2OH", "--interval", "0"), "interval = 0"),
        (("train", "nowhere.toml"), "no such file"),
    ],
)
def test_an_error_is_one_line(arguments, words, tmp_path):
    if arguments[0] in ("md", "relax"):
        arguments = (*arguments, "--output-dir", tmp_path)
    result = run_process(*arguments)
    assert result.returncode == 1
    assert not result.stdout  # a line of progress, for one
    assert result.stderr.startswith("error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_errors_name_the_structure(tmp_path):
    """With thousands of files, or frames, the message is nothing without."""
    good, bad = molecule("CH3CH2OH"), molecule("SiH4")
    for name, atoms in (("a", good), ("b", bad), ("c", good)):
        write(tmp_path / f"{name}.xyz", atoms)
    result = run("relax", "ethanol", tmp_path, "--fmax", 9, "--output-dir", tmp_path / "out")
    assert f"{tmp_path / 'b.xyz'}: this model does not know Si: " in str(result.exception)
    good.positions[3] = np.nan
    write(tmp_path / "c.xyz", good)
    result = run("relax", "ethanol", tmp_path / "c.xyz", "--output-dir", tmp_path)
    assert f"{tmp_path / 'c.xyz'}: atom 3 is at " in str(result.exception)
    for k, atoms in enumerate(frames := [molecule("CH3CH2OH"), molecule("H2O"), bad]):
        atoms.calc = SinglePointCalculator(atoms, energy=float(k))
    write(tmp_path / "frames.xyz", frames)
    result = run("evaluate", "ethanol", tmp_path / "frames.xyz")
    assert f"{tmp_path / 'frames.xyz'}: structure 2: this model does not know Si: " in str(result.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--ensemble nve --pressure 0", "--pressure would do nothing with --ensemble nve, which takes no option of"),
        ("--ensemble nve --friction 50", "--friction would do nothing"),
        ("--time-ps inf", "--time-ps inf: give a time"),
        ("--time-ps nan", "--time-ps nan: give a time"),
        (
            "--taut 1 --taup 3",
            "--taut, --taup would do nothing with --ensemble langevin, which takes --friction: leave",
        ),
        ("--ensemble bussi --taup 3", "which takes --taut: leave it out"),
        ("--ensemble npt --friction 3", "which takes --pressure, --taut, --taup: leave it out"),
    ],
)
def test_md_refuses_what_would_do_nothing(words, message, tmp_path):
    result = run("md", "si", "bulk:Si", "--output-dir", tmp_path, *words.split())
    assert message in str(result.exception)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("ensemble", "own"),
    [("langevin", {"friction": ("friction_per_ps", 3)}), ("bussi", {"taut": ("taut_fs", 50)}),
     ("npt", {"pressure": ("pressure_GPa", 1), "taut": ("taut_fs", 50), "taup": ("taup_fs", 200)})],
)  # fmt: skip
def test_md_takes_the_options_of_the_ensemble(ensemble, own, tmp_path):
    words = [word for name, (_, value) in own.items() for word in (f"--{name}", value)]
    result = run("md", "si", "bulk:Si", "--output-dir", tmp_path, "--steps", 1, "--ensemble", ensemble, *words)
    assert result.exit_code == 0, result.output
    settings = json.loads(str(np.load(tmp_path / "Si.restart.npz")["settings"]))
    assert settings == MDSettings(ensemble=ensemble, **dict(own.values())).model_dump()


@pytest.mark.parametrize("command", ["md", "relax", "phonons"])
def test_structures_without_atoms_are_refused(command, tmp_path):
    write(tmp_path / "none.xyz", Atoms())
    result = run(command, "si", tmp_path / "none.xyz", "--output-dir", tmp_path)
    assert str(result.exception) == f"{tmp_path / 'none.xyz'}: the structure has no atoms"
    assert [path.name for path in tmp_path.iterdir()] == ["none.xyz"]


def test_a_folder_is_not_said_to_be_missing(tmp_path):
    for command in ("evaluate", "md"):
        assert f"{tmp_path} is a folder: name " in str(run(command, "si", tmp_path).exception)
    for output in (("lammps", "export", "si"), ("lammps", "mliap", "si"), ("data", "convert", __file__)):
        for overwrite in ((), ("--overwrite",)):
            result = run(*output, "--output", tmp_path, *overwrite)
            assert str(result.exception) == f"{tmp_path} is a folder: name the file to write"


def test_debug_shows_the_traceback():
    assert "Traceback" in run_process("--debug", "info", "ethanl").stderr


def test_crystals(tmp_path):
    pytest.importorskip("phonopy")
    for words, message in ((("--supercell", 0, 2, 2), "supercell = (0, 2, 2)"), (("--path", "GM"), "point 'M'")):
        refused = run("phonons", "si", "bulk:Si", *words, "--output-dir", tmp_path)
        assert message in str(refused.exception)
        assert "relaxed" not in refused.output
    result = run("elastic", "si", "bulk:Si", "--output-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert "bulk modulus" in result.output
    stiffness = json.loads((tmp_path / "Si.elastic.json").read_text())["elastic"]["C_GPa"]
    assert stiffness[0][0] > stiffness[0][1] > 0
    result = run("phonons", "si", "bulk:Si", "--supercell", "2", "2", "2", "--path", "GX", "--output-dir", tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "Si.phonons.json").read_text())["phonons"]
    assert 14 < found["gamma_THz"][-1] < 16
    assert {path.name for path in tmp_path.iterdir()} == {
        f"Si.{k}.{e}" for k in ("elastic", "phonons") for e in ("json", "png")
    }
    assert isinstance(run("elastic", "si", "bulk:Si", "--output-dir", tmp_path).exception, FileExistsError)
    assert "need a crystal" in str(run("elastic", "ethanol", "molecule:CH3CH2OH", "--output-dir", tmp_path).exception)


def test_a_torsion_ends_with_the_turn(tmp_path):
    run("torsion", "ethanol", "molecule:CH3CH2OH", 0, 1, 2, 3, "--step", 100, "--fmax", 0.05, "--output-dir", tmp_path)
    found = json.loads((tmp_path / "CH3CH2OH.torsion.json").read_text())["torsion"]
    assert found["angles_deg"] == [0, 100, 200, 300]


def test_torsion(tmp_path):
    words = ("molecule:CH3CH2OH", *"0123", "--step", 120, "--fmax", 0.05, "--output-dir", tmp_path)
    result = run("torsion", "ethanol", *words)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "CH3CH2OH.torsion.json").read_text())["torsion"]
    assert found["angles_deg"] == [0, 120, 240, 360]
    frames = read(tmp_path / "CH3CH2OH.torsion.extxyz", ":")
    above = [frame.get_potential_energy() - found["lowest_eV"] for frame in frames]
    np.testing.assert_allclose(above, found["energies_eV"], atol=1e-6)


def test_spectrum(tmp_path):
    where = ("--output-dir", tmp_path)
    words = ("--time-ps", 0.4, "--resolution", 200, *where)
    result = run("spectrum", "water-tensors", "molecule:H2O", *words)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "H2O.spectrum.json").read_text())
    bend, symmetric, antisymmetric = found["harmonic"]["modes"]["frequencies_per_cm"]
    assert 1550 < bend < 1750  # CCSD(T): 1649, 3832, 3943
    assert 3700 < symmetric < antisymmetric < 4100
    assert np.argmax(found["harmonic"]["raman_A4_per_amu"]) == 1  # the breathing of the molecule
    np.testing.assert_allclose(found["harmonic"]["depolarization"][2], 0.75, atol=1e-6)  # not totally symmetric
    moving = found["dynamic"]
    strongest = moving["wave_number_per_cm"][int(np.argmax(moving["raman_A4_cm_per_amu"]))]
    assert abs(strongest - symmetric) < 300
    frames = [molecule("H2O") for _ in range(20)]
    for k, frame in enumerate(frames):
        frame.rattle(0.01, seed=k)
        frame.set_velocities(np.random.default_rng(k).normal(size=(3, 3)) * 0.01)
    write(tmp_path / "frames.extxyz", frames)
    given = ("--trajectory", tmp_path / "frames.extxyz", "--discard-ps", 0.004, "--frame-fs", 2, *where, "--overwrite")
    again = run("spectrum", "water-tensors", "molecule:H2O", *given, "--resolution", 2000)
    assert again.exit_code == 0, again.output
    assert "trajectory of 18 frames" in again.output
    refused = run("spectrum", "water-tensors", "molecule:H2O", "--time-ps", 0.4, "--frame-fs", 1, *where, "--overwrite")
    assert "--frame-fs and --discard-ps are of a --trajectory" in str(refused.exception)
    for frame in frames:
        frame.set_masses([15.999, 2.014, 2.014])
    write(tmp_path / "frames.extxyz", frames)
    refused = run("spectrum", "water-tensors", "molecule:H2O", *given)
    assert "have other isotopes" in str(refused.exception)
    refused = run("spectrum", "water-tensors", "molecule:H2O2", *given)
    assert "give one molecule's" in str(refused.exception)


@pytest.mark.parametrize(
    ("model", "structure", "options", "message"),
    [
        ("ethanol", "molecule:CH3CH2OH", (), "predicts neither dipole nor polarizability"),
        ("water-tensors", "molecule:O", (), "a single atom does not vibrate"),
        ("water-tensors", "box.xyz", (), "OH2 is periodic: normal modes are of molecules"),
        ("water-tensors", "molecule:H2O", ("--resolution", 0), "--resolution 0: use a width above 0"),
        ("water-tensors", "molecule:H2O", ("--time-ps", 1, "--temperature", 0), "--temperature 0: nothing moves"),
        ("water-tensors", "molecule:H2O", ("--resolution", -3), "--resolution -3: use a width above 0"),
        ("water-tensors", "molecule:H2O", ("--resolution", "nan"), "--resolution nan: use a width above 0"),
        ("water-tensors", "molecule:H2O", ("--time-ps", -1), "--time-ps: -1 ps of dynamics after 2 ps: use a time"),
        ("water-tensors", "molecule:H2O", ("--time-ps", 1), "--time-ps 1: a resolution of .* needs 1.67 ps"),
        ("water-tensors", "molecule:H2O", ("--time-ps", 1, "--resolution", 1e5), "/cm: frames 2 fs apart show no more"),
        ("water-tensors", "held.xyz", ("--time-ps", 9), "--time-ps 9: the atoms are constrained by FixCartesian"),
    ],
)
def test_what_has_no_spectrum_is_refused_before_anything_runs(
    tmp_path, monkeypatch, model, structure, options, message
):
    monkeypatch.setattr("ase_equivariant.cli.common.relax", None)
    water = molecule("H2O", cell=[9, 9, 9], pbc=True)
    write(tmp_path / "box.xyz", water)
    water.pbc = False
    water.set_constraint(FixCartesian([0], mask=(True, False, False)))
    write(tmp_path / "held.xyz", water)
    monkeypatch.chdir(tmp_path)
    assert re.search(message, str(run("spectrum", model, structure, *options).exception))


def test_a_spectrum_says_that_the_molecule_is_not_relaxed(tmp_path, monkeypatch):
    monkeypatch.setattr("ase_equivariant.cli.common.relax", partial(relax, steps=6))
    monkeypatch.setattr("ase_equivariant.cli.spectrum.sample", None)
    words = ("spectrum", "water-tensors", "molecule:H2O", "--fmax", 1e-9, "--output-dir", tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert re.search(r"NOT relaxed to 1e-09 eV/Å: the largest force is \S+ eV/Å after 6 steps", result.output)
    turned = run("torsion", "ethanol", "molecule:CH3CH2OH", 0, 1, 2, 3, "--step", 180, "--fmax", 1e-9, *words[-2:])
    assert turned.exit_code == 2
    assert "NOT relaxed to 1e-09 eV/Å" in turned.output
    # What is harmonic stays if the dynamics fail.
    assert isinstance(run(*words, "--time-ps", 2, "--overwrite").exception, TypeError)
    assert set(json.loads((tmp_path / "H2O.spectrum.json").read_text())) == {"model", "structure", "harmonic"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("elastic", "si", "bulk:Si", "--strain", 0), "strain = 0.0: use 0 < strain"),
        (
            ("torsion", "ethanol", "molecule:CH3CH2OH", 0, 1, 2, 9),
            r"\(0, 1, 2, 9\): a dihedral is four different atoms",
        ),
        (("torsion", "ethanol", "molecule:CH3CH2OH", 3, 1, 2, 0), r"\(3, 1, 2, 0\): give atoms along the chain"),
    ],
)
def test_wrong_options_are_refused_before_anything_relaxes(tmp_path, monkeypatch, words, message):
    monkeypatch.setattr("ase_equivariant.cli.common.relax", None)
    assert re.search(message, str(run(*words, "--output-dir", tmp_path).exception))


def test_analyse(tmp_path):
    steps = ("--steps", 120, "--interval", 4, "--output-dir", tmp_path)
    assert run("md", "ethanol", "molecule:CH3CH2OH", *steps).exit_code == 0
    where = ("--output-dir", tmp_path, "--overwrite")
    result = run("analyse", tmp_path / "CH3CH2OH.md.extxyz", "--resolution", 1000, *where)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "CH3CH2OH.analysis.json").read_text())
    assert set(found) == {"trajectory", "num_frames", "distances", "vibrations"}
    assert found["num_frames"] == 31
    assert run("md", "si", "bulk:Si", *steps).exit_code == 0
    words = ("--rdf", "--diffusion", "--element", "Si", "--discard-ps", 0.008, *where)
    result = run("analyse", tmp_path / "Si.md.extxyz", *words)
    assert "blocks of 10 frames" in str(result.exception)  # too few for an error
    result = run("analyse", tmp_path / "Si.md.extxyz", "--rdf", "--discard-ps", 0.008, *where)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "Si.analysis.json").read_text())
    assert found["num_frames"] == 27
    assert max(found["radial_distribution"]["partials"]["Si-Si"]) > 1
    assert isinstance(run("analyse", tmp_path / "nowhere.xyz").exception, FileNotFoundError)


def moving_frames(path, atoms, step_fs, count=30):
    frames = [atoms.copy() for _ in range(count)]
    for k, frame in enumerate(frames):
        frame.rattle(0.01, seed=k)
        frame.set_velocities(np.random.default_rng(k).normal(size=(len(atoms), 3)) * 0.01)
        frame.info["time_fs"] = k * step_fs
    write(path, frames)
    return path


def test_analyse_says_which_vibrations_frames_do_not_show(tmp_path):
    words = ("--vdos", "--resolution", 1000, "--output-dir", tmp_path, "--overwrite")
    result = run("analyse", moving_frames(tmp_path / "a.extxyz", molecule("H2O"), 10.0), *words)
    assert "WARNING: frequencies above 1668/cm cannot be seen with frames 10 fs apart" in result.output
    result = run("analyse", moving_frames(tmp_path / "a.extxyz", molecule("H2O"), 2.0), *words)
    assert "frequencies above 8339/cm cannot be seen with frames 2 fs apart" in result.output
    assert "WARNING" not in result.output
    result = run("analyse", moving_frames(tmp_path / "a.extxyz", molecule("CO2"), 5.0), *words)
    assert "above 3336/cm" in result.output
    assert "WARNING" not in result.output


def test_spectra_of_frames_too_far_apart_are_refused(tmp_path):
    frames = moving_frames(tmp_path / "a.extxyz", molecule("H2O"), 10.0)
    words = ("molecule:H2O", "--trajectory", frames, "--resolution", 1000, "--output-dir", tmp_path)
    result = run("spectrum", "water-tensors", *words)
    assert "above 1668/cm appear at wrong frequencies: write frames at shorter intervals" in str(result.exception)
    assert "3.7 fs at most" in str(result.exception)


def test_analyse_a_long_molecule(tmp_path):
    chain = Atoms("C4", positions=[[0, 0, 0], [0, 0, 4], [0, 0, 8], [0, 0, 14]])
    words = (moving_frames(tmp_path / "chain.extxyz", chain, 2.0), "--rdf", "--output-dir", tmp_path)
    assert "--element is of --diffusion" in str(run("analyse", *words, "--element", "C").exception)
    assert run("analyse", *words).exit_code == 0
    found = json.loads((tmp_path / "chain.analysis.json").read_text())["distances"]
    r, h = np.array(found["r_A"]), np.array(found["h_per_A"])
    assert h.sum() * (r[1] - r[0]) == pytest.approx(1)  # every pair is in it
    assert r[np.flatnonzero(h)[-1]] == pytest.approx(14, abs=0.1)


def test_nve_says_whose_velocities_it_starts_with(tmp_path):
    moving_frames(tmp_path / "a.extxyz", molecule("CH3CH2OH"), 2.0, count=1)
    words = (tmp_path / "a.extxyz", "--ensemble", "nve", "--temperature", 20, "--steps", 2, "--output-dir", tmp_path)
    result = run("md", "ethanol", *words)
    assert result.exit_code == 0, result.output
    assert "starts with the velocities of " in result.output
    assert "starts" not in run("md", "ethanol", *words, "--restart").output


def test_analyse_a_slab(tmp_path):
    slab = moving_frames(tmp_path / "slab.extxyz", surface("Cu", (1, 1, 1), 3, vacuum=5.0), 2.0)
    words = ("--resolution", 1000, "--output-dir", tmp_path)
    result = run("analyse", slab, *words)
    assert result.exit_code == 0, result.output
    assert "periodic in some directions only: no radial distribution" in result.output
    assert "vibrations" in json.loads((tmp_path / "slab.analysis.json").read_text())
    refused = run("analyse", slab, "--rdf", *words, "--overwrite")
    assert "--rdf: " in str(refused.exception)
    assert "periodic in some directions only" in str(refused.exception)


def test_which_of_several_structures_is_taken_is_said(tmp_path):
    write(tmp_path / "two.extxyz", [molecule("H2O"), molecule("CH3CH2OH")])
    result = run("relax", "ethanol", tmp_path / "two.extxyz", "--fmax", 1, "--output-dir", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "holds several structures: the last one is taken" in result.output.replace("\n", " ")
    write(tmp_path / "POSCAR", molecule("CH3CH2OH", vacuum=5.0))
    result = run("relax", "ethanol", tmp_path / "POSCAR", "--fmax", 1, "--output-dir", tmp_path / "one")
    assert result.exit_code == 0, result.output
    assert "several structures" not in result.output


def test_every_quantity_has_its_parity_picture(tmp_path):
    """Born effective charges alone: there was no picture of them, and none of nothing."""
    water = molecule("H2O")
    water.arrays["born"] = np.zeros((3, 9))
    write(tmp_path / "born.xyz", water)
    picture = tmp_path / "parity.png"
    result = run("evaluate", "water-tensors", tmp_path / "born.xyz", "--born-key", "born", "--plot", picture)
    assert result.exit_code == 0, result.exception
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_evaluate_writes_over_no_input(tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((9, 3)))
    data = tmp_path / "data.xyz"
    write(data, atoms)
    before = data.read_text()
    for option in ("--json", "--plot"):
        result = run("evaluate", "ethanol", data, option, data)
        assert "is an input" in str(result.exception)
        assert data.read_text() == before


def test_evaluate_looks_at_its_options_first(tmp_path, monkeypatch):
    monkeypatch.setattr("ase_equivariant.cli.evaluate.read_frames", lambda *_: pytest.fail("data are read"))
    for option, value, words in (
        ("--plot", tmp_path / "parity.xyz", "--plot: .*parity.xyz: no ending of a picture: choose .*\\.png"),
        ("--plot", tmp_path / "parity", "--plot: .*parity: no ending of a picture"),
        ("--plot", tmp_path, "is a folder: name the file to write"),
        ("--json", tmp_path, "is a folder: name the file to write"),
    ):
        with pytest.raises((ValueError, OSError), match=words):
            raise run("evaluate", "ethanol", "data.xyz", option, value).exception
    result = run("evaluate", "ethanol", "data.xyz", "--batch-size", 0)
    assert result.exit_code == 2
    assert "--batch-size" in result.output
