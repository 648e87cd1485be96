"""What LAMMPS adds, with a model on two processes: ensembles beside ASE's, and COLVARS' metadynamics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.io import write
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from engines.launch import mpirun, why_not

from ase_equivariant import EquivariantCalculator
from ase_equivariant.io.cache import cached_model

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

PROGRAMS = str(Path(__file__).parent / "lammps_programs.py")


def mean_and_error(runs: list[np.ndarray]) -> tuple[float, float]:
    """Mean of the later three quarters, and its standard error from the differences of runs and of their thirds."""
    kept = [values[len(values) // 4 :] for values in runs]
    thirds = np.array([[part.mean() for part in np.array_split(values, 3)] for values in kept])
    errors = [means.std(ddof=1) / np.sqrt(means.size) for means in (thirds, thirds.mean(axis=1))]
    return float(thirds.mean()), float(max(errors))


def lammps_volumes(structure, model: str, femtoseconds: float, steps: int, seed: int, folder, ranks=2) -> np.ndarray:
    folder.mkdir()
    write(folder / "start.extxyz", structure)
    words = ("npt", "start.extxyz", model, str(femtoseconds), str(steps), str(seed))
    done = mpirun(ranks, PROGRAMS, *words, folder=folder, timeout=7200)
    assert done.returncode == 0, done.stdout + done.stderr
    return np.loadtxt(folder / "volumes.txt")[:, 1]


def ase_volumes(structure, model: str, femtoseconds: float, steps: int, seed: int) -> np.ndarray:
    atoms = structure.copy()
    atoms.calc = EquivariantCalculator(model, preset="md")
    thermalize_momenta(atoms, temperature_K=600, rng=np.random.default_rng(seed))
    Stationary(atoms)
    # ASE counts the motion of the whole, which is none, among the degrees of freedom; LAMMPS does not.
    temperature = 300 * (len(atoms) - 1) / len(atoms)
    step, volumes = femtoseconds * units.fs, []
    damping = {"tdamp": 50 * step, "pdamp": 500 * step}
    dynamics = IsotropicMTKNPT(atoms, step, temperature_K=temperature, pressure_au=0.0, **damping)
    dynamics.attach(lambda: volumes.append(atoms.get_volume()), interval=10)
    dynamics.run(steps)
    return np.array(volumes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "structure", "femtoseconds", "steps"),
    [
        ("si", bulk("Si", cubic=True) * 2, 2.0, 10000),
        ("sevennet-0", bulk("NaCl", "rocksalt", a=5.7, cubic=True) * 2, 2.0, 5000),
    ],
    ids=["si", "nacl"],
)
def test_the_density_is_ase_s(model, structure, femtoseconds, steps, tmp_path, check):
    if model != "si" and not cached_model(model).is_file():
        pytest.skip(f"{model} is not in the cache; naming it to a calculator fetches it")
    how = (model, femtoseconds, steps)
    seeds = (7, 8, 9)
    ours, error = mean_and_error([lammps_volumes(structure, *how, seed, tmp_path / f"{seed}") for seed in seeds])
    theirs, their_error = mean_and_error([ase_volumes(structure, *how, seed) for seed in seeds])
    together = np.hypot(error, their_error)
    print(f"{model}: {ours:.2f} ± {error:.2f} Å³ with LAMMPS, {theirs:.2f} ± {their_error:.2f} Å³ with ASE")
    assert together < 0.005 * theirs, "the averages are too coarse to say anything"
    assert abs(theirs - structure.get_volume()) > 3 * their_error, "the start would pass as well"
    check("NPT: difference from ASE in standard errors", abs(ours - theirs) / together, 4)


def test_metadynamics_is_the_same_on_two_processes(tmp_path, check):
    ends = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        done = mpirun(ranks, PROGRAMS, "metadynamics", "ethanol", folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        with np.load(folder / "end.npz") as file:
            ends.append(dict(file))
        free_energy = np.loadtxt(folder / "meta.pmf")
        assert np.ptp(free_energy[:, 1]) > 0.02
    one, two = ends
    assert one["bias"] > 0.02
    check("metadynamics on two processes: bias (eV)", abs(one["bias"] - two["bias"]), 1e-9)
    check("metadynamics on two processes: positions (Å)", np.abs(one["positions"] - two["positions"]).max(), 1e-9)
