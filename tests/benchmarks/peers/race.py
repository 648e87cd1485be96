"""Calculators side by side: every one in a process of its own, taking turns of a few steps."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
# glibc gives large blocks back to the system and asks for them again at every step; so tuned it keeps them.
TUNED_MALLOC = "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=4294967296"


@dataclass
class Runner:
    """A calculator: kind and model of ``worker.py``, the Python that runs it, and what it measured."""

    label: str
    kind: str
    model: str
    python: str
    tuned: bool = False
    process: subprocess.Popen[str] | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    atoms: dict[str, int] = field(default_factory=dict)
    peak_GB: dict[str, float] = field(default_factory=dict)

    def start(self, threads: int) -> None:
        """Start the process; it waits for orders without using the processor."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if self.tuned:
            environment["GLIBC_TUNABLES"] = TUNED_MALLOC
        if self.kind != "ours":
            environment.pop("PYTHONPATH", None)
        command = [self.python, str(HERE / "worker.py"), self.kind, self.model, str(threads)]
        log = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )

    def run(self, system: str, steps: int) -> None:
        """Take so many steps."""
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None  # noqa: PT018
        self.process.stdin.write(json.dumps({"system": system, "steps": steps}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.label} ended while it ran {system}: run {' '.join(map(str, self.process.args))}")
        answer = json.loads(line)
        self.seconds.setdefault(system, []).extend(answer["seconds"])
        self.atoms[system], self.peak_GB[system] = answer["atoms"], answer["peak_GB"]

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()  # waits, and closes the pipes

    def microseconds(self, system: str) -> float:
        """Median time of an atom and step."""
        return statistics.median(self.seconds[system]) / self.atoms[system] * 1e6


def race(runners: list[Runner], systems: list[str], threads: int, rounds: int, seconds_each: float) -> None:
    """Let all take turns on each system; about ``seconds_each`` a turn."""
    for runner in runners:
        runner.start(threads)
    try:
        for system in systems:
            steps = {}
            for runner in runners:
                runner.run(system, 1)
                once = runner.seconds[system].pop()
                steps[runner.label] = max(1, min(200, round(seconds_each / once)))
            for _ in range(rounds):
                for runner in runners:
                    runner.run(system, steps[runner.label])
            print(table(runners, [system]), file=sys.stderr, flush=True)
    finally:
        for runner in runners:
            runner.stop()


def table(runners: list[Runner], systems: list[str]) -> str:
    """Medians in µs per atom and step, how many times the first is faster, and peak memory."""
    lines = ["| system | calculator | µs/atom/step | times ours | peak GB |", "|---|---|---|---|---|"]
    for system in systems:
        first = runners[0].microseconds(system)
        for runner in runners:
            own = runner.microseconds(system)
            lines.append(
                f"| {system} | {runner.label} | {own:.1f} | {own / first:.1f} | {runner.peak_GB[system]:.2f} |"
            )
    return "\n".join(lines)
