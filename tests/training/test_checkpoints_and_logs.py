"""Files of a run: whole or absent, and nothing in them is executed."""

import pickle

import pytest
import torch
from emt_data import emt_frames, small_config

from ase_equivariant.training.callbacks import RunKeeper
from ase_equivariant.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ase_equivariant.training.dataset import make_samples
from ase_equivariant.training.loader import EpochLoader
from ase_equivariant.training.logs import MetricsLog, read_metrics
from ase_equivariant.training.run import train


def test_checkpoint_round_trip(tmp_path):
    state = {"epoch": 3, "weights": {"a": torch.randn(3)}, "name": "x", "list": [1.5, None]}
    save_checkpoint(tmp_path / "last.ckpt", state)
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["weights"]["a"], state["weights"]["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


class Malice:
    def __reduce__(self):
        return (print, ("executed",))


def test_checkpoint_with_code_is_refused(tmp_path, capsys):
    torch.save({"format_version": 1, "x": Malice()}, tmp_path / "last.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Malice()))
    for name in ("last.ckpt", "plain.ckpt"):
        with pytest.raises(CheckpointError, match="--restart-from-scratch"):
            load_checkpoint(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 1, 100, 700])
def test_truncated_checkpoint(tmp_path, size):
    save_checkpoint(tmp_path / "a", {"x": torch.randn(100)})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:size])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_checkpoint(tmp_path / "a")


def test_checkpoint_of_another_format(tmp_path):
    torch.save({"format_version": 99}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(tmp_path / "a")


def test_table_drops_rows_to_be_trained_again_and_cut_lines(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path)
    for epoch in (1, 2, 3):
        log.write({"epoch": epoch, "train_loss": 0.5 / epoch})
    whole = path.read_text()
    path.write_text(whole + "4,17,0.0")
    MetricsLog(path, last_epoch=3)
    assert path.read_text() == whole
    MetricsLog(path, last_epoch=1)
    assert [row["epoch"] for row in read_metrics(path)] == ["1"]
    assert read_metrics(path)[0]["val_loss"] == ""


def samples_of(count):
    return make_samples(emt_frames(count), 3.5, torch.float64)


def energies(loader):
    return [energy for batch in loader for energy in batch.energy.tolist()]


def test_order_depends_on_seed_and_epoch_alone():
    samples = samples_of(7)
    a, b = EpochLoader(samples, 2, seed=3), EpochLoader(samples, 2, seed=3)
    first = energies(a)
    assert energies(a) == first  # the epoch decides, not how often it was read
    a.epoch = b.epoch = 5
    assert energies(a) == energies(b) != first
    assert sorted(first) == sorted(sample.energy.item() for sample in samples)
    assert energies(EpochLoader(samples, 2, seed=4)) != first
    assert energies(EpochLoader(samples, 2)) == [sample.energy.item() for sample in samples]


def test_skipping_continues_an_epoch():
    samples = samples_of(7)
    loader = EpochLoader(samples, 2, seed=3)
    whole = energies(loader)
    loader.skip = 2
    assert energies(loader) == whole[4:]
    assert loader.batches_per_epoch == 4


def test_the_first_epoch_is_kept(emt_file, tmp_path, monkeypatch):
    """However soon after it a run is killed; before its first step the folder is claimed."""
    save, epochs = RunKeeper.save, []
    monkeypatch.setattr(RunKeeper, "save", lambda *args: (epochs.append(args[2].epoch), save(*args)))
    train(small_config(emt_file, tmp_path / "run"), quiet=True)
    assert epochs == [0, 1, 4]
