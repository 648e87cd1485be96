"""Energies, forces and stress turn with the structure and do not care how it is written down."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from cases import EVALUATED, PERIODIC, WITH_INVERSION, ask, potential, prediction, random_rotation, relative, system

from ase_equivariant.testing import TEST_SYSTEMS

ALLOWED = 1e-10

every_case = pytest.mark.parametrize("case", EVALUATED)
every_system = pytest.mark.parametrize("name", TEST_SYSTEMS)
periodic_systems = pytest.mark.parametrize("name", PERIODIC)


def compare(check, promise, found, *, node_energies, forces, stress=None):
    check(f"{promise}: energies", relative(found["node_energies"], node_energies), ALLOWED)
    check(f"{promise}: forces", relative(found["forces"], forces), ALLOWED)
    if stress is not None:
        check(f"{promise}: stress", relative(found["stress"], stress), ALLOWED)


def turned(atoms, matrix):
    return Atoms(atoms.numbers, positions=atoms.positions @ matrix.T, cell=atoms.cell @ matrix.T, pbc=atoms.pbc)


def compare_turned(check, promise, case, name, matrix):
    expected = prediction(case, name)
    stress = expected.get("stress")
    compare(
        check,
        promise,
        ask(potential(case), turned(system(name), matrix)),
        node_energies=expected["node_energies"],
        forces=expected["forces"].numpy() @ matrix.T,
        stress=None if stress is None else matrix @ stress.numpy() @ matrix.T,
    )


@every_system
@every_case
def test_rotation(case, name, check):
    compare_turned(check, "rotation", case, name, random_rotation(np.random.default_rng(1)))


@every_system
@pytest.mark.parametrize("case", WITH_INVERSION)
def test_inversion(case, name, check):
    compare_turned(check, "inversion", case, name, -np.eye(3))


@every_system
@pytest.mark.parametrize("case", WITH_INVERSION)
def test_rotoreflection(case, name, check):
    compare_turned(check, "rotoreflection", case, name, -random_rotation(np.random.default_rng(2)))


def test_inversion_is_no_symmetry_without_parity():
    """A network of even irreps tells mirror images apart: the tests above would see a violation."""
    case, found = "rotations only", []
    for name in ("molecule", "mixed"):
        mirrored = ask(potential(case), turned(system(name), -np.eye(3)))
        found.append(relative(mirrored["node_energies"], prediction(case, name)["node_energies"]))
    assert min(found) > 1e-6


@every_system
@every_case
def test_translation(case, name, check):
    expected, atoms = prediction(case, name), system(name).copy()
    atoms.positions += [1.7, -23.1, 0.4]
    compare(check, "translation", ask(potential(case), atoms), **as_arguments(expected))


@every_system
@every_case
def test_permutation(case, name, check):
    expected, atoms = prediction(case, name), system(name)
    order = np.random.default_rng(3).permutation(len(atoms))
    compare(
        check,
        "permutation",
        ask(potential(case), atoms[order]),
        node_energies=expected["node_energies"][order],
        forces=expected["forces"][order],
        stress=expected.get("stress"),
    )


@periodic_systems
@every_case
def test_lattice_shifts_of_single_atoms(case, name, check):
    expected, atoms = prediction(case, name), system(name).copy()
    shifts = np.random.default_rng(4).integers(-2, 3, (len(atoms), 3)) * atoms.pbc
    assert shifts.any()
    atoms.positions += shifts @ atoms.cell.array
    compare(check, "lattice shift", ask(potential(case), atoms), **as_arguments(expected))


@pytest.mark.parametrize("name", ["bulk", "skewed", "tiny", "mixed"])
@every_case
def test_other_vectors_of_the_same_lattice(case, name, check):
    expected, atoms = prediction(case, name), system(name).copy()
    atoms.cell = np.array([[1, 1, 0], [0, 1, 0], [-1, 0, 1]]) @ atoms.cell.array
    compare(check, "lattice vectors", ask(potential(case), atoms), **as_arguments(expected))


@periodic_systems
@every_case
def test_supercell(case, name, check):
    expected, atoms = prediction(case, name), system(name)
    repeats = np.where(atoms.pbc, [2, 1, 2], 1) if atoms.pbc[0] else (1, 1, 3)
    count = int(np.prod(repeats))
    found = ask(potential(case), atoms.repeat(tuple(repeats)))
    energy = float(expected["energy"][0])
    check("supercell: total energy", abs(float(found["energy"][0]) - count * energy) / abs(count * energy), ALLOWED)
    compare(
        check,
        "supercell",
        found,
        node_energies=expected["node_energies"].repeat(count),
        forces=expected["forces"].repeat(count, 1),
        stress=expected.get("stress"),
    )


@every_case
def test_far_molecules_do_not_interact(case, check):
    expected, atoms = prediction(case, "molecule"), system("molecule").copy()
    copy = atoms.copy()
    copy.positions += [0.0, 40.0, 0.0]
    compare(
        check,
        "size extensivity",
        ask(potential(case), atoms + copy),
        node_energies=expected["node_energies"].repeat(2),
        forces=expected["forces"].repeat(2, 1),
    )


def as_arguments(expected):
    return {key: expected.get(key) for key in ("node_energies", "forces", "stress")}
