"""kill -9, again and again: the run that goes on is the run that was never killed."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from test_run import rows, weights

CONFIG = """
[data]
train = "{train}"
validation = 4
[model.architecture]
cutoff = 3.5
num_layers = 2
l_max = 1
irreps_hidden = "8x0e+8x1o"
[optimizer]
name = "muon"
lr = 0.01
[run]
folder = "{folder}"
max_epochs = 60
batch_size = 2
threads = 1
checkpoint_minutes = 0.002
validate_every = 3
"""


def launch(config):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "ase_equivariant.cli.main", "train", str(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_rows(process, folder, count):
    """Return once the table has so many rows."""
    deadline = time.monotonic() + 60
    while not (folder / "metrics.csv").exists() or len((folder / "metrics.csv").read_text().splitlines()) <= count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no progress within a minute"
        time.sleep(0.005)


@pytest.fixture
def configs(emt_file, tmp_path):
    paths = {}
    for name in ("whole", "killed"):
        paths[name] = tmp_path / f"{name}.toml"
        paths[name].write_text(CONFIG.format(train=emt_file, folder=tmp_path / name))
    return paths


def test_killed_run_gives_the_same_table_and_weights(configs, tmp_path):
    output, _ = (process := launch(configs["whole"])).communicate(timeout=120)
    assert process.returncode == 0, output
    table = rows(tmp_path / "whole")
    assert [row["epoch"] for row in table] == [str(k) for k in range(1, 61)]

    for number, after_rows in ((signal.SIGKILL, 7), (signal.SIGKILL, 23), (signal.SIGTERM, 41)):
        process = launch(configs["killed"])
        wait_for_rows(process, tmp_path / "killed", after_rows)
        os.kill(process.pid, number)
        output, _ = process.communicate(timeout=60)
        if number == signal.SIGTERM:
            assert process.returncode == 3, output
            assert "received SIGTERM" in output
        else:
            assert process.returncode == -signal.SIGKILL
    process = launch(configs["killed"])
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "continuing in epoch" in output
    assert rows(tmp_path / "killed") == table
    expected = weights(tmp_path / "whole" / "model.safetensors")
    for name, value in weights(tmp_path / "killed" / "model.safetensors").items():
        assert torch.equal(value, expected[name]), name
