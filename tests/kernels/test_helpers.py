"""Threads that help compiled networks: results are the same whoever asks, at once and after a fork, too."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from ase_equivariant import ModelCard, save_model
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.frozen import FrozenPotential

pytestmark = pytest.mark.skipif(native.best_level() < 0, reason="no compiled kernels: there is no C++ compiler")


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def crystal():
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=0)
    return atoms


def test_two_programs_in_one_process_share_the_helpers(small_potential, three_threads):
    graph = atoms_to_graph(crystal(), small_potential.cutoff)
    compiled = [FrozenPotential(deepcopy(small_potential)) for _ in range(4)]
    expected = compiled[0](graph, stress=True)
    with ThreadPoolExecutor(4) as pool:  # whoever finds the helpers taken works alone
        found = list(pool.map(lambda k: compiled[k % 4](graph, stress=True), range(80)))
    assert all(torch.equal(prediction[key], expected[key]) for prediction in found for key in expected)


FORK = """
import os, sys
import numpy as np
import torch
from ase.build import bulk
from ase_equivariant import EquivariantCalculator

torch.set_num_threads(3)
atoms = bulk("Si", cubic=True) * (4, 4, 4)
atoms.rattle(0.1, seed=0)
atoms.calc = EquivariantCalculator(sys.argv[1])
before = atoms.get_forces()
print("threads:", len(os.listdir("/proc/self/task")))
if (child := os.fork()) == 0:
    atoms.calc.reset()
    os._exit(0 if np.array_equal(atoms.get_forces(), before) else 3)
print("status:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
def test_a_forked_process_has_helpers_of_its_own(small_potential, tmp_path):
    save_model(tmp_path / "model.safetensors", small_potential, ModelCard(name="random", license="MIT"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # PyTorch's own threads do not survive a fork
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "model.safetensors")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    threads, status = (int(line.split()[-1]) for line in done.stdout.splitlines())
    assert threads >= 3, "nobody helped"
    assert status == 0
