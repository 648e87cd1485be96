"""LAMMPS on one to four processes against the ASE calculator; each number of them is started once, for all cases."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from engines.launch import mpirun, why_not

from ase_equivariant import EquivariantCalculator
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.cache import cached_model
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.frozen import FrozenPotential

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

from engines.lammps_cases import CASES

HERE = Path(__file__).parent
RANKS = (1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4)))
BAR_A3 = 1.6021765e6  # LAMMPS' bar·Å³ in an eV
VOIGT = ((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2))


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
    allowed = 1e-9
    check(f"{steps} steps at 3000 K, positions (Å)", np.abs(moved).max(), allowed)
    check(f"{steps} steps at 3000 K, forces (eV/Å)", np.abs(many["forces"] - one["forces"]).max(), allowed)
    check(f"{steps} steps at 3000 K, total energy (eV)", abs(many["total"] - one["total"]), allowed)
