"""Published models against the code they came from, where they are in the cache: golden answers in float64."""

from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from ase_equivariant import EquivariantCalculator
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.cache import cached_model
from ase_equivariant.testing import assert_derivatives

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
ANSWERS = sorted([*GOLDEN.glob("sevennet-*.npz"), *GOLDEN.glob("nequix-*.npz")])
# eV/atom, eV/Å, eV/Å³
ALLOWED = {"energy per atom": 1e-8, "forces": 1e-7, "stress": 1e-9}


@pytest.fixture(scope="module")
def frames():
    return read(GOLDEN / "structures.extxyz", ":")


def calculator_of(answers, **settings):
    name, _, modal = answers.stem.partition(".")
    if not cached_model(name, modal or None).is_file():
        pytest.skip(f"{name} is not installed: ase-equivariant models get {name}")
    return EquivariantCalculator(name, modal=modal or None, **settings)


def test_the_structures_cover_what_they_should(frames):
    assert len(set().union(*(atoms.symbols for atoms in frames))) >= 60
    sizes = [len(atoms) for atoms in frames]
    assert min(sizes) == 1
    assert max(sizes) == 200
    assert {tuple(map(bool, atoms.pbc)) for atoms in frames} >= {(True, True, True), (False,) * 3, (True, True, False)}


@pytest.mark.parametrize("answers", ANSWERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("fast", [False, True], ids=["eager", "compiled"])
def test_same_values_as_the_original(answers, fast, frames, check):
    calculator, expected = calculator_of(answers, fast=fast), np.load(answers)
    assert np.isfinite(expected["energy"]).sum() >= 70
    start = 0
    for k, frame in enumerate(frames):
        atoms = frame.copy()
        forces, start = expected["forces"][start : start + len(atoms)], start + len(atoms)
        if np.isnan(expected["energy"][k]):
            continue
        atoms.calc = calculator
        found = {
            "energy per atom": abs(atoms.get_potential_energy() - expected["energy"][k]) / len(atoms),
            "forces": np.abs(atoms.get_forces() - forces).max(),
        }
        if np.isfinite(expected["stress"][k]).all():
            found["stress"] = np.abs(atoms.get_stress() - expected["stress"][k]).max()
        for what, value in found.items():
            check(f"{answers.stem} = original{', compiled' if fast else ''}: {what}", value, ALLOWED[what])
    assert calculator.is_fast == fast


@pytest.mark.parametrize("answers", ANSWERS, ids=lambda path: path.stem)
def test_float32_is_float64_within_its_noise(answers, frames, check):
    calculator, expected = calculator_of(answers, dtype="float32"), np.load(answers)
    start = 0
    for k, frame in enumerate(frames):
        atoms = frame.copy()
        forces, start = expected["forces"][start : start + len(atoms)], start + len(atoms)
        if np.isnan(expected["energy"][k]):
            continue
        atoms.calc = calculator
        scale = max(1.0, np.abs(forces).max())
        energy = abs(atoms.get_potential_energy() - expected["energy"][k]) / len(atoms)
        check("published models in float32: energy per atom", energy / scale, 1e-5)
        check("published models in float32: forces", np.abs(atoms.get_forces() - forces).max() / scale, 1e-4)


@pytest.mark.parametrize("answers", ANSWERS, ids=lambda path: path.stem)
def test_derivatives_and_smoothness(answers, frames, check):
    """Forces and stress are those of the energy; nothing jumps as an atom crosses the cutoff among others."""
    calculator = calculator_of(answers)
    for atoms in (frames[1], frames[30]):
        violation = assert_derivatives(calculator, atoms, step=2e-4, num_components=2)
        check("published models: finite differences", violation, 1e-6)
    potential = calculator.potential
    atoms = frames[1].copy()
    away = np.array([0.6, -0.64, 0.48])
    values = []
    for gap in (-1e-6, 1e-6):
        moved = atoms + atoms[:1]
        moved.positions[-1] = atoms.positions[0] + (potential.cutoff + gap) * away
        values.append(potential(atoms_to_graph(moved, potential.cutoff)))
    inside, outside = values
    change = float((inside["node_energies"] - outside["node_energies"]).abs().max())
    check("published models: an atom crosses the cutoff, energies (eV)", change, 1e-5)
