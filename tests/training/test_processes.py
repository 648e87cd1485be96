"""Several processes, really started: they change nothing but the time."""

import os
import signal
import socket
import sys
import time

import pytest
import torch
from process_runs import checkpoint, finish, same_run, start, write_config
from test_run import rows

from ase_equivariant.io.model_file import load_model

ROUNDING = 1e-10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module", params=["true", "false"], ids=["compiled", "autograd"])
def compiled(request):
    return request.param


@pytest.fixture(scope="module")
def whole(folder, compiled):
    """The run of one process, and its configuration."""
    config = write_config(folder, f"one-{compiled}")
    finish(start(config, f"run.compiled={compiled}"))
    return folder / f"one-{compiled}"


def test_the_gradient_of_one_step_is_that_of_the_whole_batch(folder, compiled):
    """Adam's first moment after one step is a tenth of the gradient."""
    settings = (
        "run.batch_size=13",
        "run.max_epochs=1",
        f"run.compiled={compiled}",
        "optimizer.name=adam",
        "optimizer.gradient_clip=1e9",
    )
    gradients = []
    for devices in (1, 2):
        config = write_config(folder, f"step-{compiled}-{devices}")
        finish(start(config, *settings, f"run.compiled={compiled}", f"run.devices={devices}"))
        state = checkpoint(folder / f"step-{compiled}-{devices}")
        assert state["steps_done"] == 1
        gradients.append([10 * moments["exp_avg"] for moments in state["optimizer"]["state"].values()])
    assert max(float(g.abs().max()) for g in gradients[0]) > 0.1
    for alone, shared in zip(*gradients, strict=True):
        assert torch.allclose(shared, alone, rtol=0, atol=ROUNDING * float(alone.abs().max().clamp(min=1)))


def test_whole_runs_are_equal(folder, compiled, whole):
    config = write_config(folder, f"two-{compiled}")
    output = finish(start(config, f"run.compiled={compiled}", "run.devices=2"))
    assert output.count("species Cu Au") == 1, "one process talks"
    assert output.count("wrote ") == 1
    assert "Warning" not in output
    two = folder / f"two-{compiled}"
    assert same_run(two, whole) < ROUNDING
    assert [row["epoch"] for row in rows(two)] == ["1", "2", "3", "4"]
    for found, expected in zip(rows(two), rows(whole), strict=True):
        assert {k: float(v) for k, v in found.items()} == pytest.approx({k: float(v) for k, v in expected.items()})
    models = [load_model(run / "model.safetensors") for run in (two, whole)]
    assert models[0].card.errors == pytest.approx(models[1].card.errors)
    weights = [model.potential.state_dict() for model in models]
    assert all(torch.allclose(weights[0][k], v, rtol=0, atol=ROUNDING) for k, v in weights[1].items())


def wait_for_rows(process, run, count):
    deadline = time.monotonic() + 150
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) <= count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_stops_all_and_another_number_of_processes_goes_on(folder, number):
    settings = ("run.max_epochs=60", "run.validate_every=2")
    finish(start(write_config(folder, f"never-{number}"), *settings))
    config, run = write_config(folder, f"stopped-{number}"), folder / f"stopped-{number}"
    for devices, rows_before in ((1, 8), (2, 25)):
        process = start(config, *settings, f"run.devices={devices}")
        wait_for_rows(process, run, rows_before)
        process.send_signal(number)
        assert f"received {number.name}" in finish(process, status=3)
    assert checkpoint(run)["epoch"] < 60
    finish(start(config, *settings))
    assert same_run(run, folder / f"never-{number}") < 1e-8  # 60 epochs
    assert [row["epoch"] for row in rows(run)] == [str(k) for k in range(1, 61)]


def test_the_limit_of_time_stops_all(folder):
    config = write_config(folder, "timed")
    output = finish(start(config, "run.max_epochs=100000", "run.devices=2", "run.max_minutes=0.1"), status=3)
    assert "run.max_minutes = 0.1 reached" in output
    assert (folder / "timed" / "last.ckpt").exists()


def test_a_lost_process_ends_the_run_and_it_goes_on(folder):
    config, run = write_config(folder, "lost"), folder / "lost"
    settings = ("run.max_epochs=100000", "run.devices=2", "run.checkpoint_minutes=0")
    process = start(config, *settings, "schedule.name=constant")
    wait_for_rows(process, run, 3)
    children = [int(text) for text in children_of(process.pid)]
    assert len(children) == 1
    os.kill(children[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode in (1, -signal.SIGKILL), output
    epochs = checkpoint(run)["epoch"]
    assert epochs >= 3
    finish(start(config, f"run.max_epochs={epochs + 2}", "run.checkpoint_minutes=0", "schedule.name=constant"))
    assert checkpoint(run)["epoch"] == epochs + 2


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as stream:
        return stream.read().split()


def test_a_diverging_run_says_so_once(folder):
    settings = ("optimizer.name=adam", "optimizer.lr=1e30", "run.devices=2", "run.max_epochs=50")
    output = finish(start(write_config(folder, "diverged"), *settings), status=1)
    assert output.count("not finite in epoch") == 1


def torchrun(config, *settings, options):
    """The command under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "ase_equivariant.cli.main", "train"]
    return start(config, *settings, command=command)


def test_two_machines_of_one_process_each(folder, whole, compiled):
    """Both of them this one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    config = write_config(folder, f"machines-{compiled}")
    options = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}")
    settings = ("run.num_nodes=2", f"run.compiled={compiled}")
    processes = [torchrun(config, *settings, options=(*options, f"--node-rank={rank}")) for rank in (1, 0)]
    outputs = [finish(process) for process in processes]
    assert [output.count("wrote ") for output in outputs] == [0, 1]
    assert same_run(folder / f"machines-{compiled}", whole) < ROUNDING


def test_a_wrong_number_of_started_processes_is_refused(folder):
    config = write_config(folder, "wrong")
    output = finish(torchrun(config, options=("--standalone", "--nproc-per-node=2")), status=1)
    assert "2 processes were started, but run.devices = 1" in " ".join(output.split())
    assert not (folder / "wrong").exists()
