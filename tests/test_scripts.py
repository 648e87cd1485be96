"""The user programs in scripts/, run in small form as a user would."""

import json
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import read, write
from ase.units import kcal, mol

from ase_equivariant import load_model
from ase_equivariant.io.model_file import save_model
from ase_equivariant.kernels import network as native
from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.training.data_config import DataConfig
from ase_equivariant.training.splits import make_splits

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


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("train_md17.py", ("nothing.npz",), "nothing.npz: no such file"),
        ("reproduce_md17.py", ("data", "ethanol", "--splits", "2"), "data/rmd17_ethanol_train_02.npz: no such file"),
        ("physical_checks.py", ("water", "--data", "data"), "data/water_pbe0ts/data_3.xyz: no such file"),
    ],
)
def test_what_is_not_there_is_one_line(name, arguments, said, tmp_path):
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"error: {said}")


def test_finetuning(tmp_path):
    rng, frames = np.random.default_rng(0), []
    for _ in range(30):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.03, size=(3, 3))
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(tmp_path / "water.xyz", frames)
    common = (
        '[data]\ntrain = "water.xyz"\nvalidation = 2\ntest = 2\n[run]\nname = "w"\nbatch_size = 2\nmax_epochs = 1\n'
    )
    network = '[model.architecture]\ncutoff = 4.0\nl_max = 1\nirreps_hidden = "4x0e+4x1o"\n'
    (tmp_path / "scratch.toml").write_text(common + "[optimizer]\nlr = 0.01\n" + network)
    options = ("--sizes", 3, "--steps", 2, "--patience", 2)
    run("finetune_curve.py", "water.xyz", "ethanol", "scratch.toml", "curve", *options, cwd=tmp_path)
    curve = json.loads((tmp_path / "curve" / "curve.json").read_text())
    assert list(curve) == ["tuned-3", "scratch-3", "patient-3"]
    steps = [len((tmp_path / "curve" / key / "metrics.csv").read_text().splitlines()) - 1 for key in curve]
    assert (tmp_path / "curve" / "curve.png").exists()
    assert steps == [1, 1, 3]
    if native.best_level() < 0:
        return  # what is known is evaluated by compiled kernels

    (tmp_path / "tuned.toml").write_text('init = "ethanol"\n' + common)
    run("finetune_options.py", "tuned.toml", "water.xyz", "options", cwd=tmp_path)
    found = json.loads((tmp_path / "options" / "options.json").read_text())
    assert list(found) == ["before", "all trained", "radial frozen", "layers 0 to 2 frozen", "replay"]
    assert all(errors["new"] > 0 and errors["known"] > 0 for errors in found.values())
    assert (tmp_path / "options" / "options.png").exists()


def test_data_efficiency(tmp_path):
    rng, frames = np.random.default_rng(0), []
    for _ in range(30):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(scale=0.05, size=(3, 3))
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(tmp_path / "train_water.xyz", frames[:20])
    write(tmp_path / "test_water.xyz", frames[20:])
    committed = tomllib.loads((SCRIPTS.parent / "models" / "configs" / "data-efficiency.toml").read_text())
    plan = [
        '[grid]\nmolecules = ["water"]\nsizes = [5, 10]\nseeds = [0]\nsteps = 4\nwarmup_steps = 1\n'
        '[run.data]\ntrain = "train_{molecule}.xyz"\ntest = "test_{molecule}.xyz"\n'
        "[run.model.architecture]\ncutoff = 4.0\nnum_layers = 2\n[run.optimizer]\nlr = 0.01\n"
        '[run.schedule]\nname = "linear"\n[run.run]\nbatch_size = 5\n'
    ]
    for network in committed["networks"][2:]:
        turned = f"turned = {str(network['turned']).lower()}\n" if "turned" in network else ""
        architecture = ", ".join(f"{name} = {json.dumps(value)}" for name, value in network["architecture"].items())
        plan.append(f'[[networks]]\nname = "{network["name"]}"\n{turned}architecture = {{ {architecture} }}\n')
    (tmp_path / "plan.toml").write_text("".join(plan))
    output = run("data_efficiency.py", "plan.toml", ".", cwd=tmp_path)
    kept = json.loads((tmp_path / "data-efficiency.json").read_text())
    results = kept["results"]
    assert len(results) == 8
    assert len(output.splitlines()) == 8 + 6  # each run, and a row for each curve
    for key, found in results.items():
        straight, turned = found["forces RMSE (meV/Å)"], found["turned forces RMSE (meV/Å)"]
        assert (abs(turned / straight - 1) < 1e-4) == ("l_max" in key), (key, found)
    assert (tmp_path / "data-efficiency.png").exists()

    # A finished run is not done again, and one whose result was lost gives it again from its checkpoint.
    lost = {key: results.pop(key) for key in list(results)[-2:]}
    (tmp_path / "data-efficiency.json").write_text(json.dumps(kept))
    (tmp_path / "before.json").hardlink_to(tmp_path / "data-efficiency.json")
    output = run("data_efficiency.py", "plan.toml", ".", cwd=tmp_path)
    assert len(output.splitlines()) == 2 + 6
    assert json.loads((tmp_path / "data-efficiency.json").read_text())["results"] == results | lost
    assert json.loads((tmp_path / "before.json").read_text()) == kept  # the file is replaced, never half written


def test_results_of_the_data_efficiency_study_are_continued_by_their_plan_only(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    study = import_module("study_files")
    models = SCRIPTS.parent / "models"
    committed = tomllib.loads((models / "configs" / "data-efficiency.toml").read_text(encoding="utf-8"))
    results = study.read_results(models / "data-efficiency.json", committed)
    assert len(results) >= 40
    file = tmp_path / "data-efficiency.json"
    assert study.read_results(file, committed) == {}
    less = committed | {"networks": committed["networks"][:2]}
    study.write_results(file, less, {"one": 1.0})
    study.write_results(file, committed, study.read_results(file, committed))  # networks may be added, or left out
    assert study.read_results(file, less) == {"one": 1.0}
    other, fewer, wider = (json.loads(json.dumps(committed)) for _ in range(3))
    other["run"]["optimizer"]["lr"] = 0.01
    fewer["grid"]["steps"] = 100
    wider["networks"][3]["architecture"]["irreps_hidden"] = "8x0e"
    for plan, what in ((other, "optimizer was"), (fewer, "steps was 12000, now it is 100"), (wider, "l_max 3 was")):
        with pytest.raises(SystemExit, match=what):
            study.read_results(file, plan)
    file.write_text("{}")
    with pytest.raises(SystemExit, match="does not say of what plan"):
        study.read_results(file, committed)

    (tmp_path / "bad.toml").write_text("[grid]\nsteps = 1")
    (tmp_path / "plan.toml").write_text((models / "configs" / "data-efficiency.toml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["plan.toml"], "give a plan and a folder"),
        (["absent.toml", "."], "absent.toml: No such file"),
        (["bad.toml", "."], "bad.toml is no plan like models/configs/data-efficiency.toml .KeyError: 'networks'"),
        (["plan.toml", "."], r"rmd17_aspirin_test_01.npz: no such file .run.data of plan.toml names it"),
    ):
        with pytest.raises(SystemExit, match=message):
            study.plan_and_folder(["data_efficiency.py", *arguments])


def test_networks_of_the_data_efficiency_study_are_of_equal_size():
    plan = tomllib.loads((SCRIPTS.parent / "models" / "configs" / "data-efficiency.toml").read_text())
    sizes = []
    for network in plan["networks"]:
        architecture = plan["run"]["model"]["architecture"] | network["architecture"] | {"species": ["H", "C", "O"]}
        potential = Potential(PotentialConfig.parse({"architecture": architecture}))
        sizes.append(sum(p.numel() for p in potential.parameters()))
    assert sizes[:4] == [87816, 88872, 90664, 89992]  # as the configuration says
    assert max(sizes) / min(sizes) < 1.04


def test_representations(tmp_path):
    output = run("representations.py", cwd=tmp_path)
    assert "cross product, 1e" in output


def reproduced(monkeypatch, capsys, *arguments, configs=None):
    """What the program prints of ethanol, with trainings whose errors are 1, 2 … meV and a tenth of it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    program = runpy.run_path(str(SCRIPTS / "reproduce_md17.py"))
    runs = iter(range(1, 9))

    def train(config):
        if configs is not None:
            configs.append(config)
        error = next(runs) / 1000
        comparisons = {"energy": SimpleNamespace(mae=error), "forces": SimpleNamespace(mae=error / 10)}
        test = SimpleNamespace(comparisons=comparisons)
        return SimpleNamespace(stopped=False, evaluations={"test": test}, record={"hours": 1.0})

    monkeypatch.setitem(program["main"].__globals__, "train", train)
    monkeypatch.setattr(sys, "argv", ["reproduce_md17.py", "data", "ethanol", *arguments])
    program["main"]()
    return capsys.readouterr().out


def test_spread_of_reproduced_runs(monkeypatch, capsys):
    """That of a single run, estimated from them; one run has none."""
    assert "| 2.00 ± 1.00 / 0.20 ± 0.10 | 1.0 |" in reproduced(monkeypatch, capsys, "--seeds", "0", "1", "2")
    assert "| 1.00 / 0.10 | 1.0 |" in reproduced(monkeypatch, capsys)


def test_settings_of_reproduced_runs(monkeypatch, capsys):
    words = ("--epochs", "7", "--set", "loss.energy.weight=0.1", "--set", "model.architecture.polynomial_p=2")
    configs = []
    reproduced(monkeypatch, capsys, *words, configs=configs)
    assert configs[0].run.max_epochs == 7
    assert configs[0].loss.energy.weight == 0.1
    assert configs[0].model.architecture.polynomial_p == 2


def test_training_from_a_joint_model_validates_on_what_that_was_not_trained_on(tmp_path, monkeypatch):
    """Of two files of five and seven structures, three of which validated the joint model."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name, count in (("a", 5), ("b", 7)):
        coords = np.zeros((count, 2, 3))
        coords[:, 1, 2] = 0.7 + 0.1 * np.arange(count)
        np.savez(tmp_path / f"{name}.npz", coords=coords, nuclear_charges=[1, 1], energies=np.zeros(count))
    joint = {"train": ["a.npz", "b.npz"], "validation": 3, "split_seed": 4}
    loaded = load_model(SCRIPTS.parent / "models" / "rmd17-ethanol.safetensors")
    card = loaded.card.model_copy(update={"training": {"config": {"data": joint}}})
    save_model(tmp_path / "joint.safetensors", loaded.potential, card)
    init, held_out = {"init": str(tmp_path / "joint.safetensors")}, import_module("joint_split").held_out
    own = [held_out(init, str(tmp_path / name))["validation_indices"] for name in ("a.npz", "b.npz")]
    files = tuple(str(tmp_path / name) for name in joint["train"])
    whole = make_splits(DataConfig.parse(joint | {"train": files})).indices["validation"]
    assert sorted([*own[0], *(5 + k for k in own[1])]) == sorted(whole)
    assert all(own)  # both have some, or the second file's positions are not seen
    assert held_out({}, "b.npz") == {}
    with pytest.raises(SystemExit, match=r"was not trained on c\.npz"):
        held_out(init, str(tmp_path / "c.npz"))


def test_speeds_of_models(tmp_path):
    (tmp_path / "data").mkdir()
    positions = molecule("CH3CH2OH").positions + np.linspace(0, 0.02, 3 * 27).reshape(3, 9, 3)
    numbers = {"nuclear_charges": molecule("CH3CH2OH").numbers, "coords": positions}
    np.savez(tmp_path / "data" / "rmd17_ethanol_train_01.npz", **numbers)
    run("model_speeds.py", "data", "speeds.json", "rmd17-ethanol", "md17-ethanol", cwd=tmp_path)
    found = json.loads((tmp_path / "speeds.json").read_text())["models"]
    assert [*found] == ["md17-ethanol", "rmd17-ethanol"]
    for speed in found.values():
        assert speed["structure"] == "C2H6O"
        assert 1 < speed["microseconds_per_atom"] < 1e6


def test_the_results_page_is_up_to_date(tmp_path):
    models = SCRIPTS.parent / "models"
    for path in models.iterdir():
        if path.suffix in (".safetensors", ".json") or path.name == "README.in.md":
            (tmp_path / path.name).symlink_to(path)
    run("results_page.py", tmp_path, cwd=tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == (models / "README.md").read_text("utf-8")


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
