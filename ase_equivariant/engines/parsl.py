"""Parsl: tasks on the workers of clusters, without a database."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ase_equivariant.engines.foreign import foreign


@contextmanager
def parsl_submit(config: Path) -> Iterator[Callable[..., Any]]:
    """Yield ``submit(function, *arguments)`` → future on the executors that a Python file sets up as ``config``.

    The file is run; workers are started by the first task. Leave Parsl's ``retries`` at 0 with
    :func:`~ase_equivariant.engines.throughput.run_all`, which knows what of a task is done already.

    Raises
    ------
    ImportError
        If Parsl is not installed.
    ValueError
        If the file has no ``parsl.Config`` called ``config``.

    References
    ----------
    Babuji et al., Parsl, HPDC 2019, doi:10.1145/3307681.3325400.
    """
    parsl = foreign("parsl", "parsl", "parsl")
    found = runpy.run_path(str(config)).get("config")
    if not isinstance(found, parsl.Config):
        raise ValueError(f"{config}: sets no `config = parsl.Config(…)`")
    before = os.environ.get("PATH", "")
    with ExitStack() as running:
        kernels: list[Any] = []

        def submit(function: Callable[..., Any], *arguments: Any) -> Any:
            if not kernels:
                # Parsl looks for its interchange.py there, which lies beside an interpreter that was not activated too
                os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
                running.callback(os.environ.__setitem__, "PATH", before)
                kernels.append(running.enter_context(parsl.DataFlowKernel(found)))
            return parsl.python_app(function, data_flow_kernel=kernels[0])(*arguments)

        yield submit
