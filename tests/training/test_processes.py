"""Several processes, really started: they change nothing but the time."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
from process_runs import CHARGES, checkpoint, finish, same_run, start, write_config
from test_run import rows

from ase_equivariant.io.model_file import load_model

ROUNDING = 1e-10
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


CASES = {
    "compiled": ("", ("run.compiled=true",)),
    "autograd": (CHARGES, ("run.compiled=false", "data.charges_key=q", "optimizer.weight_decay=0.1")),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Name, further text of the configuration and settings."""
    return request.param, *CASES[request.param]


def test_the_gradient_of_one_step_is_that_of_the_whole_batch(folder, case):
    """Adam's first moment after one step is a tenth of the gradient."""
    name, text, settings = case
    settings += ("run.batch_size=13", "run.max_epochs=1", "optimizer.name=adam", "optimizer.gradient_clip=1e9")
    gradients = []
    for devices in (1, 2):
        config = write_config(folder, f"step-{name}-{devices}", text)
        finish(start(config, *settings, "optimizer.weight_decay=0", f"run.devices={devices}"))
        state = checkpoint(folder / f"step-{name}-{devices}")
        assert state["steps_done"] == 1
        gradients.append([10 * moments["exp_avg"] for moments in state["optimizer"]["state"].values()])
    assert max(float(g.abs().max()) for g in gradients[0]) > 0.1
    for alone, shared in zip(*gradients, strict=True):
        assert torch.allclose(shared, alone, rtol=0, atol=ROUNDING * float(alone.abs().max().clamp(min=1)))


def test_whole_runs_are_equal(folder, case):
    name, text, settings = case
    one, two = folder / f"one-{name}", folder / f"two-{name}"
    finish(start(write_config(folder, one.name, text), *settings))
    output = finish(start(write_config(folder, two.name, text), *settings, "run.devices=2"))
    assert output.count("species Cu Au") == 1, "one process talks"
    assert output.count("wrote ") == 1
    assert "Warning" not in output
    assert same_run(two, one) < ROUNDING
    assert [row["epoch"] for row in rows(two)] == ["1", "2", "3", "4"]
    for found, expected in zip(rows(two), rows(one), strict=True):
        assert {k: float(v) for k, v in found.items()} == pytest.approx({k: float(v) for k, v in expected.items()})
    models = [load_model(run / "model.safetensors") for run in (two, one)]
    assert models[0].card.errors == pytest.approx(models[1].card.errors)
    weights = [model.potential.state_dict() for model in models]
    assert all(torch.allclose(weights[0][k], v, rtol=0, atol=ROUNDING) for k, v in weights[1].items())


def wait_for_rows(process, run, count):
    deadline = time.monotonic() + 600
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) <= count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)


def test_a_signal_to_one_stops_all_and_another_number_of_processes_goes_on(folder):
    settings = ("run.max_epochs=60", "run.validate_every=2")
    finish(start(write_config(folder, "never"), *settings))
    config, run = write_config(folder, "stopped"), folder / "stopped"
    for number, devices, rows_before in ((signal.SIGTERM, 1, 5), (signal.SIGINT, 2, 15), (signal.SIGTERM, 2, 30)):
        process = start(config, *settings, f"run.devices={devices}")
        wait_for_rows(process, run, rows_before)
        process.send_signal(number)
        assert f"received {number.name}" in finish(process, status=3)
    assert checkpoint(run)["epoch"] < 60
    finish(start(config, *settings))
    assert same_run(run, folder / "never") < ROUNDING
    assert [row["epoch"] for row in rows(run)] == [str(k) for k in range(1, 61)]


def test_the_limit_of_time_stops_all(folder):
    config = write_config(folder, "timed")
    output = finish(start(config, "run.max_epochs=100000", "run.devices=2", "run.max_minutes=0.03"), status=3)
    assert "run.max_minutes = 0.03 reached" in output
    assert (folder / "timed" / "last.ckpt").exists()


def test_a_lost_process_ends_the_run_and_it_goes_on(folder):
    config, run = write_config(folder, "lost"), folder / "lost"
    settings = ("run.max_epochs=100000", "run.devices=2", "run.checkpoint_minutes=0")
    process = start(config, *settings, "schedule.name=constant")
    wait_for_rows(process, run, 3)
    children = [int(text) for text in children_of(process.pid)]
    assert len(children) == 1
    os.kill(children[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
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


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_machines_of_one_process_each(folder):
    """Both of them this one."""
    finish(start(write_config(folder, "machine")))
    config, port = write_config(folder, "machines"), free_port()
    options = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}")
    processes = [torchrun(config, "run.num_nodes=2", options=(*options, f"--node-rank={rank}")) for rank in (1, 0)]
    outputs = [finish(process) for process in processes]
    assert [output.count("wrote ") for output in outputs] == [0, 1]
    assert same_run(folder / "machines", folder / "machine") < ROUNDING


def test_a_wrong_number_of_started_processes_is_refused(folder):
    config = write_config(folder, "wrong")
    output = finish(torchrun(config, options=("--standalone", "--nproc-per-node=2")), status=1)
    assert "2 processes were started, but run.devices = 1" in " ".join(output.split())
    assert not (folder / "wrong").exists()


SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" > /dev/null &
SLURM_PROCID=0 SLURM_LOCALID=0 "$@"
status=$?
wait $! && exit $status
"""


def test_the_script_for_slurm(folder):
    """With a stand-in that starts two processes as srun does, and takes note of what is to be queued again."""
    tools = folder / "bin"
    tools.mkdir()
    for name, text in (
        ("srun", SRUN),
        ("scontrol", f"#!/usr/bin/env bash\necho $* > {folder}/scontrol.txt\n"),
        ("ase-equivariant", f'#!/usr/bin/env bash\nexec {sys.executable} -m ase_equivariant.cli.main "$@"\n'),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    config = write_config(folder, "slurm", "max_minutes = 0.02\n")
    config.write_text(config.read_text().replace("max_epochs = 4", "max_epochs = 100000"))
    names = {"NTASKS": 2, "NTASKS_PER_NODE": 2, "NNODES": 1, "NODEID": 0, "JOB_ID": 77, "JOB_NAME": "train"}
    environment = {f"SLURM_{name}": str(value) for name, value in names.items()}
    environment |= {"SLURM_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "DEVICE": "cpu"}
    output = finish(start(config, command=("bash", str(SCRIPTS / "train_slurm.sh")), environment=environment))
    assert "run.max_minutes = 0.02 reached" in output
    assert (folder / "scontrol.txt").read_text() == "requeue 77\n"
    assert json.loads((folder / "slurm" / "config.json").read_text())["run"]["devices"] == 2
