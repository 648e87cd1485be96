"""Whole runs: they learn, stop, go on, refuse and end as they should."""

import csv
import json
import subprocess
import sys
import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from emt_data import emt_atoms, emt_frames, small_config

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.config import ConfigError
from ase_equivariant.io.model_file import load_model
from ase_equivariant.kernels import network as native
from ase_equivariant.training import callbacks
from ase_equivariant.training.callbacks import DivergedError
from ase_equivariant.training.checkpoint import CheckpointError
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.folder_lock import FolderInUseError, hold_folder
from ase_equivariant.training.module import TrainingModule
from ase_equivariant.training.processes import make_trainer, quiet_lightning
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.run import train


def rows(folder):
    """The table without the times."""
    with open(folder / "metrics.csv", encoding="utf-8") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def weights(model_file):
    return load_model(model_file).potential.state_dict()


def test_a_run_learns_energy_forces_and_stress(tmp_path):
    write(tmp_path / "emt.xyz", emt_atoms(60))
    config = small_config(
        tmp_path / "emt.xyz",
        tmp_path / "run",
        data={"test": 2},
        loss={name: {"kind": "norm", "weight": w} for name, w in (("energy", 2), ("forces", 1), ("stress", 30))},
        optimizer={"name": "muon", "lr": 0.02},
        run={"max_epochs": 30, "name": "cuau", "tensorboard": True},
        card={"level_of_theory": "EMT"},
    )
    rng_before = torch.get_rng_state()
    result = train(config, quiet=True)
    assert torch.equal(torch.get_rng_state(), rng_before)
    table = rows(tmp_path / "run")
    assert [row["epoch"] for row in table] == [str(k) for k in range(1, 31)]
    for name in ("forces", "energy_per_atom", "stress"):
        first, last = (float(table[k][f"val_{name}_rmse"]) for k in (0, -1))
        assert last < 0.5 * first, name
    assert result.stopped is None
    assert result.evaluations["test"].num_structures == 2
    loaded = load_model(tmp_path / "run" / "cuau.safetensors")
    assert loaded.card.level_of_theory == "EMT"
    assert loaded.card.training["structures"] == {"train": 54, "validation": 4, "test": 2}
    # The file's model is the one whose errors are in the table and on the card.
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    frames = [emt_frames(60)[k] for k in splits["validation"]["indices"]]
    errors = evaluate(loaded.potential, frames).errors()
    best = table[result.record["best_epoch"] - 1]
    assert errors["forces RMSE (meV/Å)"] == pytest.approx(float(best["val_forces_rmse"]), rel=1e-3)
    card_errors = {
        name.removeprefix("validation "): v for name, v in loaded.card.errors.items() if "validation" in name
    }
    assert card_errors == pytest.approx(errors, rel=1e-3)
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    atoms = emt_atoms(1)[0]
    atoms.calc = EquivariantCalculator(tmp_path / "run" / "cuau.safetensors")
    assert np.isfinite(atoms.get_potential_energy())


def test_a_second_call_of_a_complete_run_changes_nothing(emt_file, tmp_path):
    config = small_config(emt_file, tmp_path)
    first = train(config, quiet=True)
    table, before = rows(tmp_path), weights(first.model_file)
    second = train(config, quiet=True)
    assert second.record == first.record
    assert rows(tmp_path) == table
    assert all(torch.equal(before[name], value) for name, value in weights(second.model_file).items())


class CountingClock:
    """Every look at it is a second later, so that limits of time are limits of steps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("minutes", [0.06, 0.12, 0.2])
def test_stopping_in_the_middle_of_an_epoch_changes_nothing(emt_file, tmp_path, monkeypatch, minutes):
    """A launch takes a few steps and ends in the middle of an epoch; validation falls on every second epoch."""
    options = {"validate_every": 2, "max_epochs": 4, "batch_size": 3}
    whole = train(small_config(emt_file, tmp_path / "whole", run=options), quiet=True)
    monkeypatch.setattr(callbacks, "time", CountingClock())
    parts = small_config(
        emt_file, tmp_path / "parts", run={**options, "checkpoint_minutes": 0.0001, "max_minutes": minutes}
    )
    launches, result = 0, None
    while result is None or result.stopped:
        result = train(parts, quiet=True)
        launches += 1
        assert launches < 100
    assert launches > 3
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    expected = weights(whole.model_file)
    assert all(torch.equal(expected[name], value) for name, value in weights(result.model_file).items())


def test_other_configuration_or_data_is_refused(emt_file, tmp_path):
    train(small_config(emt_file, tmp_path / "run", run={"max_epochs": 1}), quiet=True)
    with pytest.raises(CheckpointError, match=r"settings: run.seed = 7 \(was 0\); .*--restart-from-scratch"):
        train(small_config(emt_file, tmp_path / "run", run={"max_epochs": 1, "seed": 7}), quiet=True)
    fewer = small_config(emt_file, tmp_path / "run", run={"max_epochs": 1}, data={"num_train": 5})
    with pytest.raises(CheckpointError, match=r"settings: data.num_train = 5 \(was null\);"):  # not what follows of it
        train(fewer, quiet=True)
    other, given = tmp_path / "other.xyz", {"run": {"max_epochs": 1}, "architecture": {"avg_num_neighbors": 12.0}}
    write(other, emt_atoms(seed=5))
    with pytest.raises(CheckpointError, match=r"data.train = .*other.xyz\" \(was "):
        train(small_config(other, tmp_path / "run", run={"max_epochs": 1}), quiet=True)
    train(small_config(other, tmp_path / "changed", **deepcopy(given)), quiet=True)
    write(other, emt_atoms(seed=6))
    with pytest.raises(CheckpointError, match="started on other data"):
        train(small_config(other, tmp_path / "changed", **given), quiet=True)
    again = small_config(emt_file, tmp_path / "run", run={"max_epochs": 2, "seed": 7})
    assert train(again, quiet=True, restart_from_scratch=True).record["epochs"] == 2
    assert len(rows(tmp_path / "run")) == 2


def test_structures_in_two_parts_are_told(emt_file, tmp_path):
    frames = emt_atoms(6, seed=3)
    frames[4].wrap()
    write(tmp_path / "test.xyz", [*frames, read(emt_file, 2), read(emt_file, 5)])
    data = {"test": str(tmp_path / "test.xyz"), "train_indices": (1, 2, 3, 4, 5)}
    data |= {"validation": 0.1, "validation_indices": (0, 6)}
    with pytest.warns(UserWarning, match=r"^2 of 8 test structures are training .* \(counted from 0: 6, 7\), so"):
        train(small_config(emt_file, tmp_path / "run", run={"max_epochs": 1}, data=data), say=lambda line: None)
    write(tmp_path / "test.xyz", [*frames, read(emt_file, 6)])
    with pytest.warns(UserWarning, match="^1 of 7 test structures are training or validation structures"):
        train(small_config(emt_file, tmp_path / "chosen", run={"max_epochs": 1}, data=data), say=lambda line: None)
    write(tmp_path / "test.xyz", frames)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*structures, too")
        train(small_config(emt_file, tmp_path / "apart", run={"max_epochs": 1}, data=data), say=lambda line: None)


def test_a_file_in_the_place_of_the_folder(emt_file, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"file: it, or a folder above it, is a file: choose another run\.folder"):
        train(small_config(emt_file, tmp_path / "file", run={"max_epochs": 1}), quiet=True)
    with pytest.raises(FileExistsError, match="is a file"):
        train(small_config(emt_file, tmp_path / "file" / "run", run={"max_epochs": 1}), quiet=True)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_starting_anew_puts_the_old_model_aside(emt_file, tmp_path):
    train(small_config(emt_file, tmp_path, run={"max_epochs": 1}), quiet=True)
    before = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.old.safetensors").write_text("an older one")
    said = []
    config = small_config(emt_file, tmp_path, run={"max_epochs": 1, "seed": 7, "max_minutes": 1e-9})
    assert train(config, restart_from_scratch=True, say=said.append).model_file is None
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "model.old.safetensors").read_bytes() == before
    assert f"the earlier model is now {tmp_path / 'model.old.safetensors'}" in said


@pytest.mark.parametrize("lost", [["last.ckpt"], ["last.ckpt", "model.safetensors"], ["last.ckpt", "metrics.csv"]])
def test_what_is_left_of_a_run_without_its_checkpoint_is_not_overwritten(emt_file, tmp_path, lost):
    config = small_config(emt_file, tmp_path, run={"max_epochs": 1})
    train(config, quiet=True)
    for name in lost:
        (tmp_path / name).unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        CheckpointError, match=r"without its last.ckpt: choose another run.folder, or .*--restart-from-scratch"
    ):
        train(config, quiet=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    train(config, quiet=True, restart_from_scratch=True)


def test_a_run_that_is_killed_before_its_first_interval_goes_on(emt_file, tmp_path, monkeypatch):
    """As kill -9 leaves it: rows in the table, and only the checkpoint from before the first step."""
    options = {"max_epochs": 3, "checkpoint_minutes": 1000}
    train(small_config(emt_file, tmp_path / "whole", run=options), quiet=True)
    complete, epochs = TrainingModule.complete_epoch, []

    def killed(module):
        epochs.append(module.epoch)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return complete(module)

    config = small_config(emt_file, tmp_path / "killed", run=options)
    monkeypatch.setattr(TrainingModule, "complete_epoch", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(config, quiet=True)
    monkeypatch.undo()
    assert len(rows(tmp_path / "killed")) == 2
    train(config, quiet=True)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_a_run_may_be_prolonged(emt_file, tmp_path):
    for epochs in (2, 5):
        config = small_config(emt_file, tmp_path / "a", schedule={"name": "constant"}, run={"max_epochs": epochs})
        train(config, quiet=True)
    at_once = small_config(emt_file, tmp_path / "b", schedule={"name": "constant"}, run={"max_epochs": 5})
    train(at_once, quiet=True)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_a_diverging_run_says_so_and_keeps_the_last_good_checkpoint(emt_file, tmp_path):
    options = {"max_epochs": 50, "checkpoint_minutes": 0, "dtype": "float32"}
    config = small_config(
        emt_file,
        tmp_path,
        optimizer={"name": "adam", "lr": 1e18, "gradient_clip": None},
        schedule={"name": "linear", "warmup_epochs": 0},
        run=options,
    )
    with pytest.raises(DivergedError, match=r"not finite in epoch \d+: lower optimizer.lr"):
        train(config, quiet=True)
    assert all(np.isfinite(float(row["train_loss"])) for row in rows(tmp_path))


@pytest.mark.parametrize("patience", [None, 2])
def test_a_run_without_a_finite_validation_has_no_model_and_says_so(emt_file, tmp_path, patience):
    wrong = emt_atoms(1)
    wrong[0].calc.results["forces"] *= 1e39  # finite in the file, infinite in float32
    write(tmp_path / "wrong.xyz", wrong)
    config = small_config(
        emt_file,
        tmp_path / "run",
        data={"validation": str(tmp_path / "wrong.xyz")},
        run={"max_epochs": 3, "early_stopping_epochs": patience},
    )
    for _ in range(2):  # the second finds the run complete
        with pytest.raises(DivergedError, match=rf"no validation of the run's {patience or 3} epochs had a finite"):
            train(config, quiet=True)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(("every", "validated"), [(3, [3, 5]), (9, [5])])
def test_the_last_epoch_is_validated_whatever_the_interval(emt_file, tmp_path, every, validated):
    options = {"max_epochs": 5, "validate_every": every, "ema_decay": 0.0}
    result = train(small_config(emt_file, tmp_path, run=options), quiet=True)
    assert [int(row["epoch"]) for row in rows(tmp_path) if row["val_loss"]] == validated
    assert result.record["best_epoch"] == 5


def test_the_last_epoch_before_an_early_stop_is_validated(emt_file, tmp_path):
    options = {"max_epochs": 50, "validate_every": 3, "early_stopping_epochs": 4, "ema_decay": 0.0}
    train(small_config(emt_file, tmp_path, optimizer={"lr": 1e-12}, run=options), quiet=True)
    table = rows(tmp_path)
    assert len(table) < 50
    assert table[-1]["val_loss"]


def test_early_stopping(emt_file, tmp_path):
    config = small_config(
        emt_file,
        tmp_path,
        optimizer={"lr": 1e-12},
        run={"max_epochs": 50, "early_stopping_epochs": 3, "ema_decay": 0.0},
    )
    # Such a small rate changes no float32 weight by more than rounding: nothing can improve for long.
    assert train(config, quiet=True).record["epochs"] < 50


def test_progress_is_told_line_by_line_without_a_terminal(emt_file, tmp_path, capsys):
    train(small_config(emt_file, tmp_path, run={"max_epochs": 2}))
    printed = capsys.readouterr().out
    assert "species Cu Au" in printed
    assert "epoch 2/2" in printed
    assert "meV/Å" in printed
    assert ("by autograd" in printed) == (native.best_level() < 0)


def test_what_makes_a_run_slow_is_told(emt_file, tmp_path, capsys):
    train(small_config(emt_file, tmp_path, architecture={"norm": "rms"}, run={"max_epochs": 1}))
    assert "by autograd, several times slower than compiled code: there are no compiled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"architecture": {"species": ["Cu"]}}, "the data has Au"),
        ({"architecture": {"cutoff": 1.2}}, "closer than the cutoff of 1.2 Å in any training structure"),
        ({"data": {"validation": 12}}, "no structures are left"),
        ({"data": {"train": "absent.xyz"}}, "no such file"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_anything_is_written(emt_file, tmp_path, sections, message):
    config = small_config(emt_file, tmp_path / "run", **sections)
    with pytest.raises(DataError, match=message):
        train(config, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_test_without_labels_is_told_before_the_training(tmp_path):
    structures = emt_atoms(10)
    for atoms in structures[:2]:
        atoms.calc = None
    write(tmp_path / "a.xyz", structures)
    config = small_config(tmp_path / "a.xyz", tmp_path / "run", data={"test_indices": [0, 1]})
    with pytest.raises(DataError, match="no test structure has any of an energy, forces: there is nothing to compare"):
        train(config, quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_may_be_of_lone_atoms(emt_file, tmp_path, part):
    lone = [Atoms(symbol) for symbol in ("Cu", "Au")]
    for atoms in lone:
        atoms.calc = SinglePointCalculator(atoms, energy=3.5, forces=np.zeros((1, 3)))
    write(tmp_path / "lone.xyz", lone)
    data = {part: str(tmp_path / "lone.xyz")}
    result = train(small_config(emt_file, tmp_path / "run", data=data, run={"max_epochs": 1}), quiet=True)
    assert result.evaluations[part].num_atoms == 2
    assert result.evaluations[part].comparisons["forces"].largest == 0


@pytest.mark.parametrize("part", ["validation", "test"])
def test_elements_that_are_not_trained_on_are_refused(emt_file, tmp_path, part):
    structures = emt_atoms(4, seed=1)
    structures[2].symbols[0] = "Ag"
    write(tmp_path / "silver.xyz", structures)
    data = {part: str(tmp_path / "silver.xyz")}
    with pytest.raises(DataError, match="no training structure has Ag, but validation or test structures have"):
        train(small_config(emt_file, tmp_path / "run", data=data), quiet=True)
    data["references"] = {"Cu": 0.0, "Ag": 0.0, "Au": 0.0}
    listed = small_config(emt_file, tmp_path / "run", data=data, architecture={"species": ["Cu", "Ag", "Au"]})
    with pytest.raises(DataError, match="no training structure has Ag, but validation or test structures have"):
        train(listed, quiet=True)


def test_a_listed_element_that_no_structure_has_is_warned_about(emt_file, tmp_path):
    config = small_config(emt_file, tmp_path, architecture={"species": ["Cu", "Ag", "Au"]}, run={"max_epochs": 1})
    with pytest.warns(UserWarning, match="no training structure has Ag, which model.architecture.species lists"):
        result = train(config, quiet=True)
    assert load_model(result.model_file).potential.species == ("Cu", "Ag", "Au")


@pytest.mark.parametrize("devices", [1, 8])
def test_devices_that_are_not_there_are_refused(emt_file, tmp_path, devices):
    if torch.cuda.device_count() >= devices:
        pytest.skip("there are as many GPUs")
    config = small_config(emt_file, tmp_path, run={"device": "cuda", "devices": devices, "batch_size": 8})
    with pytest.raises(ConfigError, match=rf"run.device = 'cuda' with run.devices = {devices} cannot be had") as error:
        train(config, quiet=True)
    assert "\n" not in str(error.value)


def test_a_device_is_chosen_that_has_float64(emt_file, tmp_path, monkeypatch):
    """Lightning would take Apple's GPU."""
    monkeypatch.setattr("lightning.pytorch.accelerators.MPSAccelerator.is_available", staticmethod(lambda: True))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with quiet_lightning():
        trainer = make_trainer(small_config(emt_file, tmp_path, run={"device": "auto"}), [])
    assert trainer.strategy.root_device == torch.device("cpu")


def test_two_runs_in_one_folder_are_refused(emt_file, tmp_path):
    config = small_config(emt_file, tmp_path / "run", run={"max_epochs": 1})
    train(config, quiet=True)
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    code = f"""
import time
from pathlib import Path
from ase_equivariant.training.folder_lock import hold_folder
with hold_folder(Path({str(tmp_path / "run")!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(FolderInUseError, match="another process trains in this folder"):
                train(config, quiet=True, restart_from_scratch=True)
            assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
            with hold_folder(tmp_path / "run", wanted=False):  # processes that do not write
                pass
        finally:
            other.kill()
    train(config, quiet=True)  # a killed process holds nothing


def test_a_run_that_failed_leaves_its_folder_free(emt_file, tmp_path):
    train(small_config(emt_file, tmp_path, run={"max_epochs": 1}), quiet=True)
    with pytest.raises(CheckpointError, match=r"other settings: run\.seed"):
        train(small_config(emt_file, tmp_path, run={"max_epochs": 1, "seed": 1}), quiet=True)
    with hold_folder(tmp_path):
        pass


def test_missing_label_of_a_term_is_refused(tmp_path):
    structures = emt_atoms(6)
    for atoms in structures:
        atoms.calc.results.pop("stress")
    write(tmp_path / "a.xyz", structures)
    config = small_config(
        tmp_path / "a.xyz", tmp_path / "run", data={"validation": 2}, loss={"stress": {"weight": 1.0}}
    )
    with pytest.raises(DataError, match=r"no training structure has stress, but loss.stress.weight is 1"):
        train(config, quiet=True)


def test_lightning_is_imported_by_training_only():
    code = (
        "import sys, ase_equivariant.cli.main, ase_equivariant.training.run;"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('lightning', 'tensorboard')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_lightning_the_cure_is_told(emt_file, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'ase-equivariant\[train\]'"):
        train(small_config(emt_file, tmp_path), quiet=True)
