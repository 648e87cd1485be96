"""Errors of a model on data, as numbers, table, file and plot."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import Bohr
from emt_data import SMALL, emt_atoms, emt_frames
from matplotlib.figure import Figure
from typer.testing import CliRunner

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.cli.main import app
from ase_equivariant.io.model_file import ModelCard, save_model
from ase_equivariant.plotting.learning_curve import plot_learning_curve
from ase_equivariant.potential import Potential, PotentialConfig
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.logs import MetricsLog, read_metrics
from ase_equivariant.training.readers import DataError


@pytest.fixture
def potential():
    return Potential(PotentialConfig.parse({"architecture": {**SMALL, "species": ["Cu", "Au"]}}))


def test_errors_are_those_of_the_calculator(potential):
    """Computed once more, one structure at a time, through ASE."""
    frames = emt_frames(5)
    result = evaluate(potential, frames, batch_size=2)
    energy, forces, stress = [], [], []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.calc = EquivariantCalculator(potential)
        energy.append((atoms.get_potential_energy() - frame.energy) / len(atoms))
        forces.append(atoms.get_forces() - frame.forces)
        stress.append(atoms.get_stress(voigt=False) - frame.stress)
    forces = np.concatenate(forces)
    gold = np.concatenate([frame.atoms.numbers for frame in frames]) == 79
    errors = result.errors()
    for name, error in {
        "energy_per_atom {} (meV/atom)": np.array(energy),
        "forces {} (meV/Å)": forces,
        "forces_Au {} (meV/Å)": forces[gold],
        "forces_Cu {} (meV/Å)": forces[~gold],
        "stress {} (meV/Å³)": np.array(stress),
    }.items():
        assert errors[name.format("MAE")] == pytest.approx(1000 * np.abs(error).mean(), rel=1e-8)
        assert errors[name.format("RMSE")] == pytest.approx(1000 * np.sqrt((error**2).mean()), rel=1e-8)


def test_only_what_is_labelled_is_compared(potential):
    frames = [Frame(frame.atoms, energy=frame.energy) for frame in emt_frames(3)]
    assert set(evaluate(potential, frames).comparisons) == {"energy", "energy_per_atom"}
    with pytest.raises(DataError, match="nothing to compare"):
        evaluate(potential, [Frame(frame.atoms) for frame in frames])
    with pytest.raises(ValueError, match="batch_size = 0: evaluate one structure at a time or more"):
        evaluate(potential, frames, batch_size=0)


def test_unknown_elements_are_named(potential):
    with pytest.raises(ValueError, match="does not know O"):
        evaluate(potential, [Frame(Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.2]]), energy=0.0)])


def test_the_command_prints_and_writes(potential, tmp_path):
    structures = emt_atoms(4)
    lone = Atoms("Cu")
    lone.calc = SinglePointCalculator(lone, energy=0.0)
    write(tmp_path / "data.xyz", [*structures, lone])
    save_model(tmp_path / "m.safetensors", potential, ModelCard(name="m"))
    arguments = ["evaluate", tmp_path / "m.safetensors", tmp_path / "data.xyz"]
    arguments += ["--json", tmp_path / "e.json", "--plot", tmp_path / "p.png"]
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert "forces Au" in result.output
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["num_structures"] == 5
    frames = [*emt_frames(4), Frame(Atoms("Cu"), energy=0.0)]
    assert written["errors"] == pytest.approx(evaluate(potential, frames).errors(), rel=1e-5)
    assert (tmp_path / "p.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert {path.name for path in tmp_path.iterdir()} == {"data.xyz", "m.safetensors", "e.json", "p.png"}


def test_float32_models_are_evaluated_in_float32(potential):
    frames = emt_frames(2)
    exact = evaluate(potential, frames).errors()
    single = evaluate(potential.to(torch.float32), frames).errors()
    assert single == pytest.approx(exact, rel=1e-3)
    assert single != exact


def test_learning_curve(tmp_path):
    log = MetricsLog(tmp_path / "metrics.csv")
    for epoch in (1, 2, 3):
        log.write({"epoch": epoch, **({"val_forces_mae": 10 / epoch} if epoch != 2 else {})})
    ax = plot_learning_curve(read_metrics(log.path), Figure().add_subplot(), "val_forces_mae", "forces MAE", "meV/Å")
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[1, 10], [3, 10 / 3]])
    with pytest.raises(ValueError, match="choose one of val_loss"):
        plot_learning_curve(read_metrics(log.path), ax, "val_force", "", "")


def test_data_is_read_as_in_training(tmp_path):
    """The charge of an ion far from the origin decides what its dipole is; lengths and virials have their units too."""
    ion = Atoms("OH", positions=[[5.0, 0, 0], [5.97, 0, 0]])
    dipole = [-4.94, 0.0, 0.0]  # about the origin; 0.12 about the centre of mass
    found = []
    for name, position_scale in (("charge", 1.0), ("total_charge", 1.0), ("total_charge", 1 / Bohr)):
        ion.info = {name: -1, "REF_energy": -1.0}
        labelled = ion.copy()
        labelled.positions *= position_scale
        labelled.calc = SinglePointCalculator(labelled, dipole=dipole)
        write(tmp_path / "ion.xyz", labelled)
        options = ["--energy-key", "REF_energy", "--charge-key", name, "--json", str(tmp_path / "e.json")]
        options += ["--length-units", "Bohr"] if position_scale != 1.0 else []
        arguments = ["evaluate", "water-tensors", str(tmp_path / "ion.xyz"), *options]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        errors = json.loads((tmp_path / "e.json").read_text())["errors"]
        found.append(next(value for key, value in errors.items() if key.startswith("dipole")))
    assert found[0] < 1000  # 10⁻³ e·Å; without the charge it is 5
    assert found[1:] == pytest.approx([found[0]] * 2, rel=1e-4)
