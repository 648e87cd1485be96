"""How long it takes until a calculator is there, beside torch alone: ``python tests/benchmarks/startup.py MODEL``.

The model must be shipped or in the cache. Processes of both kinds take turns; the medians are printed, in seconds
on the clock and of the processor (user + system), which says more on a machine that does other things as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

TORCH = "import torch"
CALCULATOR = """
from ase_equivariant import EquivariantCalculator
EquivariantCalculator(sys.argv[1])
"""
REPORT = """
import json, resource
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"processor": used.ru_utime + used.ru_stime, "modules": sorted(sys.modules)}))
"""


def measure(program: str, model: str) -> dict:
    """Seconds on the clock and of the processor for ``program`` in a new process, and the modules it imported."""
    command = [sys.executable, "-c", f"import sys\n{program}{REPORT}", model]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {"clock": elapsed, **json.loads(done.stdout)}


def main() -> None:
    """Measure in turns and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    programs = {"torch alone": TORCH, "import and calculator": CALCULATOR}
    taken: dict[str, list[dict]] = {name: [] for name in programs}
    for _ in range(arguments.rounds):
        for name, program in programs.items():
            taken[name].append(measure(program, arguments.model))
    for name, runs in taken.items():
        clock, processor = (statistics.median(run[kind] for run in runs) for kind in ("clock", "processor"))
        print(f"{name:24} {clock:.2f} s, processor {processor:.2f} s (medians of {len(runs)})")


if __name__ == "__main__":
    main()
