"""The machine: what trains, what a card says of it, and of a model's speed on it."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential import Potential
from ase_equivariant.potential.frozen import FrozenPotential, NotFreezableError
from ase_equivariant.training.frames import Frame

_SECONDS, _CALLS = 0.5, 7  # how long to measure at least, and how often


def accelerator(device: str) -> str:
    """What ``run.device`` stands for here: "cpu" or "cuda". Lightning's own "auto" may be MPS, which has no float64."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def machine() -> str:
    """Processor and number of threads."""
    return f"{_processor()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def speed(potential: Potential, frame: Frame) -> dict[str, Any]:
    """Time of energy, forces and stress of a structure, without the neighbour list.

    Returns
    -------
    dict
        ``structure`` (formula), ``atoms``, ``microseconds_per_atom`` (median) and ``machine``.
    """
    graph = atoms_to_graph(frame.atoms, potential.cutoff, dtype=torch.float64)
    evaluate: Callable[..., Any] = potential
    try:
        evaluate = FrozenPotential(potential)
    except NotFreezableError:
        graph = graph.to(potential.device, potential.dtype)
    seconds: list[float] = []
    started = time.perf_counter()
    while len(seconds) < _CALLS or time.perf_counter() - started < _SECONDS:
        before = time.perf_counter()
        evaluate(graph, forces=True, stress=True)
        seconds.append(time.perf_counter() - before)
    n = len(frame.atoms)
    microseconds = round(statistics.median(seconds) / n * 1e6, 1)
    formula = frame.atoms.get_chemical_formula()
    return {"structure": formula, "atoms": n, "microseconds_per_atom": microseconds, "machine": machine()}
