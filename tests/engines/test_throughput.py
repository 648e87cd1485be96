"""Many structures: nothing is lost or repeated when workers, or the program itself, are killed."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.io import read, write
from typer.testing import CliRunner

from ase_equivariant import EquivariantCalculator
from ase_equivariant.cli.main import app
from ase_equivariant.engines.parsl import parsl_submit
from ase_equivariant.engines.result_store import ResultStore
from ase_equivariant.engines.throughput import Job, JobError, run_all, run_chunk, run_one
from ase_equivariant.recipes.relax import relax

needs_parsl = pytest.mark.skipif(find_spec("parsl") is None, reason="Parsl is not installed (extra parsl)")
REPOSITORY = Path(__file__).resolve().parents[2]


def structures(number):
    found = {}
    for k in range(number):
        found[f"ethanol-{k}"] = atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=k)
    return found


@pytest.fixture
def job(model_file):
    return Job.of(str(model_file), steps=3)


def here(function, *arguments):
    future = Future()
    try:
        future.set_result(function(*pickle.loads(pickle.dumps(arguments))))
    except Exception as error:
        future.set_exception(error)
    return future


def lost(words="worker lost"):
    future = Future()
    future.set_exception(OSError(words))
    return future


def lines(folder):
    """All whole records that were ever written."""
    texts = [path.read_bytes() for path in Path(folder).glob("*.jsonl")]
    return [json.loads(line) for text in texts for line in text[: text.rfind(b"\n") + 1].splitlines()]


def test_results_are_the_calculator_s(job, model_file, tmp_path):
    many = structures(2)
    records = run_all(Job.of(str(model_file), steps=0), many, tmp_path, here)
    for name, atoms in many.items():
        atoms.calc = EquivariantCalculator(model_file)
        assert records[name]["energy_eV"] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(records[name]["forces_eV_per_A"], atoms.get_forces(), atol=1e-10)
        np.testing.assert_array_equal(records[name]["positions_A"], atoms.positions)
        moved = run_one(job, atoms)
        assert (moved["steps"], moved["converged"]) == (3, False)
        assert moved["energy_eV"] < records[name]["energy_eV"]


def test_a_cell_relaxes_as_by_the_recipe():
    start = bulk("Si", a=5.3)
    record = run_one(Job.of("si", cell=True), start)
    start.calc = EquivariantCalculator("si", preset="relax")
    expected = relax(start, cell=True)
    assert record["converged"]
    assert record["energy_eV"] == expected.energy_after_eV
    np.testing.assert_array_equal(record["cell_A"], expected.atoms.cell.array)
    assert record["cell_A"][0][1] > 5.35 / 2


def test_a_second_run_computes_nothing(job, tmp_path):
    seen = []
    first = run_all(job, structures(5), tmp_path, here, chunk=2, progress=lambda *numbers: seen.append(numbers))
    assert list(first) == [f"ethanol-{k}" for k in range(5)]
    assert seen == [(2, 5), (4, 5), (5, 5)]

    def refuse(*_):
        raise AssertionError("something was submitted")

    assert run_all(job, structures(5), tmp_path, refuse) == first


def test_threads_do_not_disturb_each_other(job, tmp_path):
    with ThreadPoolExecutor(4) as threads:
        together = run_all(job, structures(16), tmp_path / "threads", threads.submit, chunk=1)
    assert together == run_all(job, structures(16), tmp_path / "one", here)


def test_what_decides_the_result_decides_the_key(job, model_file):
    (atoms,) = structures(1).values()
    keys = {job.key(atoms), Job.of(str(model_file), steps=4).key(atoms)}
    for change in (
        lambda a: a.rattle(1e-12),
        lambda a: a.set_pbc(True),
        lambda a: a.set_cell([9, 9, 9]),
        lambda a: a.set_constraint(FixAtoms([0])),
        lambda a: a.set_constraint(FixAtoms([1])),
    ):
        other = atoms.copy()
        change(other)
        keys.add(job.key(other))
    assert len(keys) == 7
    assert Job("elsewhere.safetensors", job.model_sha256, device="cuda", steps=3).key(atoms) == job.key(atoms)


def test_what_a_killed_process_left_is_not_lost_and_not_read(job, tmp_path):
    run_all(job, structures(2), tmp_path, here)
    file = next(tmp_path.glob("*.jsonl"))
    file.write_bytes(file.read_bytes()[:-40])
    assert len(ResultStore(tmp_path).read()) == 1
    run_all(job, structures(2), tmp_path, here)
    assert len(ResultStore(tmp_path).read()) == 2


def test_a_failing_structure_is_recorded_and_the_others_go_on(job, tmp_path):
    many = structures(2) | {"iron": bulk("Fe")}
    found = run_all(job, many, tmp_path, here)
    assert "does not know Fe" in found["iron"]["error"]
    assert "error" not in found["ethanol-1"]


def test_a_lost_task_repeats_only_what_it_had_not_done(job, tmp_path):
    submitted = []

    def submit(function, job, chunk, folder):
        submitted.append(list(chunk))
        if len(submitted) > 1:
            return here(function, job, chunk, folder)
        run_chunk(job, dict(list(chunk.items())[:2]), folder)
        return lost()

    run_all(job, structures(4), tmp_path, submit, chunk=4)
    assert submitted[1:] == [["ethanol-2"], ["ethanol-3"]]
    assert Counter(record["name"] for record in lines(tmp_path)) == Counter(f"ethanol-{k}" for k in range(4))


def test_a_structure_that_kills_its_workers_takes_no_others_with_it(job, tmp_path):
    def submit(function, job, chunk, folder):
        return lost() if "ethanol-2" in chunk else here(function, job, chunk, folder)

    found = run_all(job, structures(4), tmp_path, submit, chunk=4)
    assert [name for name, record in found.items() if "error" in record] == ["ethanol-2"]
    assert "lost 3 times, the last time with: worker lost" in found["ethanol-2"]["error"]
    assert len(run_all(job, structures(4), tmp_path, here)["ethanol-2"]["numbers"]) == 9, "a larger machine may do it"


@pytest.mark.parametrize(
    "fail",
    [
        lambda: torch.empty(10**15),  # PyTorch's own words
        lambda: np.empty(10**16),
        lambda: throw(torch.cuda.OutOfMemoryError("CUDA out of memory.")),
        lambda: throw(RuntimeError("CUDA error: an illegal memory access was encountered")),
    ],
    ids=["processor", "numpy", "accelerator", "broken"],
)
def test_a_machine_that_fails_says_nothing_of_the_structure(job, tmp_path, monkeypatch, fail):
    """Memory that runs out, or an accelerator's fault: tried again, here and in the next run, and not kept."""
    real, failures = EquivariantCalculator.calculate, []

    def calculate(self, atoms=None, *arguments, **options):
        if len(atoms) == 3 and len(failures) < 4:
            failures.append(1)
            fail()
        return real(self, atoms, *arguments, **options)

    monkeypatch.setattr(EquivariantCalculator, "calculate", calculate)
    many = structures(1) | {"part": structures(1)["ethanol-0"][:3]}
    found = run_all(job, many, tmp_path, here, attempts=3)
    assert "lost 3 times, the last time with" in found["part"]["error"]
    assert "error" not in found["ethanol-0"]
    assert "error" not in run_all(job, many, tmp_path, here)["part"], "the fourth failure is followed by a success"


def throw(error):
    raise error


def test_what_is_wrong_for_all_ends_the_run(job, tmp_path):
    with pytest.raises(RuntimeError, match="no task comes back from its worker, the last one with: worker lost"):
        run_all(job, structures(2), tmp_path, lambda *_: lost())
    with pytest.raises(JobError, match="is another model at a worker"):
        run_all(Job(job.model, "0" * 64), structures(2), tmp_path, here)
    with pytest.raises(ValueError, match="choose one of BFGS"):
        Job.of(job.model, optimizer="Newton")


def config_file(folder, executor):
    """Without Parsl's log, a file that it leaves open."""
    config = folder / "config.py"
    config.write_text(
        "import parsl\nfrom parsl.executors import HighThroughputExecutor, ThreadPoolExecutor\n"
        "from parsl.providers import LocalProvider\n"
        f"config = parsl.Config(executors=[{executor}], initialize_logging=False, run_dir={str(folder)!r})\n"
    )
    return config


PILOT = (
    "HighThroughputExecutor(max_workers_per_node=1, cores_per_worker=1, address='127.0.0.1',"
    " heartbeat_period=2, heartbeat_threshold=120,"  # the manager looks for dead workers once a period
    " provider=LocalProvider(init_blocks=1, max_blocks=1))"
)


def wait_for_records(folder, number, process=None):
    deadline = time.time() + 300
    while len(lines(folder)) < number:
        assert time.time() < deadline, "no results"
        assert process is None or process.poll() is None, "it ended too early"
        time.sleep(0.02)


@needs_parsl
def test_a_killed_parsl_worker(job, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    folder = tmp_path / "results"
    with parsl_submit(config_file(tmp_path, PILOT)) as submit, ThreadPoolExecutor(1) as thread:
        running = thread.submit(run_all, job, structures(40), folder, submit, chunk=20)
        wait_for_records(folder, 3)
        worker = int(next(folder.glob("*.jsonl")).stem.rsplit("-", 1)[1])
        assert worker != os.getpid()
        os.kill(worker, signal.SIGKILL)
        found = running.result(timeout=300)
    assert [name for name, record in found.items() if "error" in record] == []
    records = lines(folder)
    assert Counter(record["name"] for record in records) == Counter(list(structures(40)))
    assert len({path.stem.rsplit("-", 1)[1] for path in folder.glob("*.jsonl")}) == 2, "a second worker took over"


@needs_parsl
def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many").mkdir()
    write("many/ethanol.extxyz", list(structures(2).values()))
    write("many/silicon.cif", bulk("Si"))
    config = config_file(tmp_path, "ThreadPoolExecutor(max_threads=1)")
    command = ["relax", "ethanol", "many", "molecule:CH3CH2OH", "--fmax", "0.3", "--parsl", str(config)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    assert "silicon: FAILED, this model does not know Si" in result.output
    assert "3 converged, 0 not converged, 1 failed; wrote relaxed.extxyz" in result.output
    frames = read("relaxed.extxyz", ":")
    assert [frame.info["name"] for frame in frames] == ["ethanol-0", "ethanol-1", "CH3CH2OH"]
    assert all(np.linalg.norm(frame.get_forces(), axis=1).max() < 0.3 for frame in frames)
    written = lines("relax.results")
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, FileExistsError)
    again = CliRunner().invoke(app, [*command, "--overwrite"])
    assert "3 converged" in again.output
    assert lines("relax.results") == written


def test_bad_configuration_is_one_clear_line(tmp_path):
    pytest.importorskip("parsl", reason="Parsl is not installed (extra parsl)")
    empty = tmp_path / "config.py"
    empty.write_text("")
    with pytest.raises(ValueError, match=r"config.py: sets no `config = parsl.Config"), parsl_submit(empty):
        pass


@needs_parsl
@pytest.mark.slow
def test_the_command_is_killed_and_repeated(tmp_path):
    write(tmp_path / "many.extxyz", list(structures(30).values()))
    config = config_file(tmp_path, PILOT)
    command = [sys.executable, "-m", "ase_equivariant.cli.main", "relax", "ethanol", "many.extxyz", "--fmax", "0.1"]
    command += ["--parsl", str(config), "--chunk", "5"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        wait_for_records(tmp_path / "relax.results", 7, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the program and its workers
        process.wait()
    assert not (tmp_path / "relaxed.extxyz").exists()
    before = {record["key"] for record in lines(tmp_path / "relax.results")}
    assert 7 <= len(before) < 30
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 converged, 0 not converged, 0 failed" in done.stdout
    assert len(read(tmp_path / "relaxed.extxyz", ":")) == 30
    assert max(Counter(record["key"] for record in lines(tmp_path / "relax.results")).values()) == 1
