"""Thousands of relaxations or evaluations as plain functions, for any executor; what is done is never done again."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from ase import Atoms

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.engines.result_store import ResultStore, content_key
from ase_equivariant.io.model_file import load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.recipes.relax import check_relaxation, relax

Record = dict[str, Any]
# PyTorch raises RuntimeErrors for what is wrong with a machine, which say so only in words.
_OF_MACHINE = (
    "out of memory",
    "can't allocate memory",
    "DefaultCPUAllocator",
    "bad_alloc",
    "CUDA error",
    "CUDA driver",
    "CUBLAS_STATUS",
    "cuDNN error",
    "CUDNN_STATUS",
    "NCCL error",
    "HIP error",
    "NVML",
)


@dataclass(frozen=True)
class Job:
    """What is done with every structure; ``steps = 0`` evaluates.

    Attributes
    ----------
    model, model_sha256 : str
        Name or absolute path, and the hash that it must have wherever the job runs.
    device, dtype
        As for :class:`~ase_equivariant.EquivariantCalculator`.
    optimizer, fmax, steps, cell, pressure_GPa
        As for :func:`~ase_equivariant.recipes.relax.relax`.

    Raises
    ------
    ValueError
        If the optimizer is unknown, or numbers make no sense.
    """

    model: str
    model_sha256: str
    device: str = "cpu"
    dtype: str | None = None
    optimizer: str = "BFGS"
    fmax: float = 0.01
    steps: int = 500
    cell: bool = False
    pressure_GPa: float = 0.0

    def __post_init__(self) -> None:
        check_relaxation(self.optimizer, self.fmax, self.steps, self.cell, self.pressure_GPa)

    @classmethod
    def of(cls, model: str, **settings: Any) -> Job:
        """Job with the model that this name or path means here.

        Raises
        ------
        ValueError, OSError, RuntimeError
            If there is no such model, or for settings that make no sense.
        """
        loaded = load_model(resolve(model))
        place = str(Path(model).resolve()) if Path(model).is_file() else model
        return cls(place, loaded.header.sha256, **settings)

    def key(self, atoms: Atoms) -> str:
        """Of the result for a structure: hash of both; where the model's file lies and what ran it do not count."""
        settings = {name: value for name, value in asdict(self).items() if name not in ("model", "device")}
        return content_key(atoms, settings)


class JobError(RuntimeError):
    """What is wrong with the job as a whole, and would be for every structure."""


def run_one(job: Job, start: Atoms) -> Record:
    """Do a job for a structure; arguments and result are picklable and the result is plain JSON.

    Returns
    -------
    dict
        ``converged``, ``steps``, ``energy_eV``, ``max_force_eV_per_A``, ``forces_eV_per_A`` and the structure:
        ``numbers``, ``positions_A``, ``cell_A``, ``pbc``. Where the structure fails, ``error`` alone.

    Raises
    ------
    JobError
        If the model cannot be had or is another one.
    MemoryError, RuntimeError
        If the machine fails, not the structure: no memory left, or an accelerator's error.
    """
    atoms = start.copy()
    atoms.calc = _calculator(job)
    try:
        return _result(job, atoms)
    except (ValueError, RuntimeError) as error:
        if _is_of_machine(error):  # another one, or this one later, may do it: a lost task, not a result
            raise
        return {"error": str(error)}


def _is_of_machine(error: Exception) -> bool:
    """Whether memory or an accelerator failed, so that the same structure may pass elsewhere."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in str(error) for words in _OF_MACHINE)


def run_chunk(job: Job, chunk: Mapping[str, Atoms], folder: str) -> dict[str, Record]:
    """Do a job for named structures and append each result to a :class:`ResultStore` as soon as it is there.

    Runs in a worker. What the same chunk has left there before, in a task that was lost, is not done again.

    Returns
    -------
    dict
        By key, :func:`run_one`'s result with ``key`` and ``name``.
    """
    store = ResultStore(folder)
    keys = {name: job.key(atoms) for name, atoms in chunk.items()}
    task = hashlib.sha256("".join(keys.values()).encode()).hexdigest()[:16]
    done = store.read(task)
    for name, key in keys.items():
        if key not in done:
            done[key] = {"key": key, "name": name, **run_one(job, chunk[name])}
            store.append(task, done[key])
    return done


def run_all(
    job: Job,
    structures: Mapping[str, Atoms],
    folder: str | Path,
    submit: Callable[..., Future[dict[str, Record]]],
    *,
    chunk: int = 8,
    attempts: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Record]:
    """Results of all structures by name: those in the folder from there, the others computed.

    Parameters
    ----------
    structures : mapping of str to Atoms
        By name; those that are equal are done once.
    folder : path
        Of the :class:`ResultStore`, which workers must reach too.
    submit : callable
        ``submit(function, *arguments)`` → future, of any executor. When a worker is killed or a node lost, so that
        the future fails, what it has not appended is submitted again, each structure by itself: one that kills its
        worker takes no others with it.
    chunk : int
        Structures in a task.
    attempts : int
        For a structure. One whose tasks are lost as often gets an ``error`` that the folder does not keep.
    progress : callable, optional
        Called with the numbers of structures that are done and of all.

    Raises
    ------
    JobError
        If the job is wrong as a whole.
    RuntimeError
        If tasks are lost and none has ever come back.
    """
    if chunk < 1 or attempts < 1:
        raise ValueError(f"chunk = {chunk} and attempts = {attempts}: use at least 1")
    store = ResultStore(folder)
    keys = {name: job.key(atoms) for name, atoms in structures.items()}
    done = store.read()
    known = len(done)
    todo = list({key: name for name, key in keys.items() if key not in done}.values())
    tasks = _Tasks(lambda names: submit(run_chunk, job, {name: structures[name] for name in names}, str(store.folder)))
    for k in range(0, len(todo), chunk):
        tasks.launch(todo[k : k + chunk], 1)
    failed: dict[str, Record] = {}
    for future, names, attempt in tasks:
        failure = future.exception()
        if isinstance(failure, JobError):
            raise failure
        done |= future.result() if failure is None else store.read()
        for name in names:
            if keys[name] in done:
                continue
            if attempt < attempts:
                tasks.launch([name], attempt + 1)
            elif len(done) == known:
                raise RuntimeError(f"no task comes back from its worker, the last one with: {failure}") from failure
            else:
                failed[keys[name]] = {"error": f"its task was lost {attempts} times, the last time with: {failure}"}
        if progress is not None:
            progress(sum(key in done for key in keys.values()), len(keys))
    return {name: done.get(key) or failed[key] for name, key in keys.items()}


class _Tasks:
    """Running tasks; iteration gives them as they end and may launch more."""

    def __init__(self, start: Callable[[list[str]], Future[dict[str, Record]]]):
        self._start, self._running = start, 0
        self._ended: SimpleQueue[tuple[Future[dict[str, Record]], list[str], int]] = SimpleQueue()

    def launch(self, names: list[str], attempt: int) -> None:
        self._running += 1
        self._start(names).add_done_callback(lambda future: self._ended.put((future, names, attempt)))

    def __iter__(self) -> Iterator[tuple[Future[dict[str, Record]], list[str], int]]:
        while self._running:
            task = self._ended.get()
            self._running -= 1
            yield task


def _result(job: Job, atoms: Atoms) -> Record:
    found = relax(
        atoms, optimizer=job.optimizer, fmax=job.fmax, steps=job.steps, cell=job.cell, pressure_GPa=job.pressure_GPa
    )
    return {
        "converged": found.converged,
        "steps": found.steps,
        "energy_eV": found.energy_after_eV,
        "max_force_eV_per_A": found.max_force,
        "forces_eV_per_A": atoms.get_forces(apply_constraint=False).tolist(),
        "numbers": atoms.numbers.tolist(),
        "positions_A": atoms.positions.tolist(),
        "cell_A": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
    }


_of_thread = threading.local()  # a calculator holds its last structure, so threads cannot share one


def _calculator(job: Job) -> EquivariantCalculator:
    if getattr(_of_thread, "job", None) != job:
        try:
            calculator = EquivariantCalculator(job.model, device=job.device, dtype=job.dtype, preset="relax")
        except (ValueError, OSError, RuntimeError) as error:
            raise JobError(f"a worker cannot load {job.model}: {error}") from None
        if calculator.model_sha256 != job.model_sha256:
            raise JobError(
                f"{job.model} is another model at a worker (sha256 {calculator.model_sha256}, not the job's)"
            )
        _of_thread.job, _of_thread.calculator = job, calculator
    return _of_thread.calculator
