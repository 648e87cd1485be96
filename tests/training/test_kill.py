"""kill -9, again and again: the run that goes on is the run that was never killed."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from test_run import rows, weights

from ase_equivariant.training.config import load_config
from ase_equivariant.training.run import train

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
max_epochs = 80
batch_size = 2
threads = 1
checkpoint_minutes = 0.0005
validate_every = 3
"""


def launch(config):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "ase_equivariant.cli.main", "train", str(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_rows(process, folder, count):
    """Return once the table has so many rows."""
    deadline = time.monotonic() + 300
    while not (folder / "metrics.csv").exists() or len((folder / "metrics.csv").read_text().splitlines()) <= count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no progress within five minutes"
        time.sleep(0.005)


@pytest.fixture
def configs(emt_file, tmp_path):
    paths = {}
    for name in ("whole", "killed"):
        paths[name] = tmp_path / f"{name}.toml"
        paths[name].write_text(CONFIG.format(train=emt_file, folder=tmp_path / name))
    return paths


def test_killed_run_gives_the_same_table_and_weights(configs, tmp_path):
    train(load_config(configs["whole"]), quiet=True)
    table = rows(tmp_path / "whole")
    assert [row["epoch"] for row in table] == [str(k) for k in range(1, 81)]

    for after_rows in (7, 23):
        process = launch(configs["killed"])
        wait_for_rows(process, tmp_path / "killed", after_rows)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    process = launch(configs["killed"])
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "continuing in epoch" in output
    assert rows(tmp_path / "killed") == table
    expected = weights(tmp_path / "whole" / "model.safetensors")
    for name, value in weights(tmp_path / "killed" / "model.safetensors").items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_between_two_steps(configs, tmp_path, number):
    """The first signal ends the run cleanly, the old handlers come back, and the rest of the run is the same."""
    train(load_config(configs["whole"]), quiet=True)
    before = signal.getsignal(number)
    table = tmp_path / "killed" / "metrics.csv"

    def send():
        while not table.exists() or len(table.read_text().splitlines()) < 3:
            time.sleep(0.002)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    stopped = train(load_config(configs["killed"]), quiet=True)
    thread.join()
    assert stopped.stopped == f"received {number.name}"
    assert stopped.record["epochs"] < 80
    assert signal.getsignal(number) == before
    assert train(load_config(configs["killed"]), quiet=True).stopped is None
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
