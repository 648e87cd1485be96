"""Molecular dynamics: physics, files, and runs that are killed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCartesian, FixedPlane, FixScaled
from ase.io import read
from ase.md.velocitydistribution import ZeroRotation

from ase_equivariant import EquivariantCalculator
from ase_equivariant.config import ConfigError
from ase_equivariant.recipes.dynamic_spectra import check_constraints
from ase_equivariant.recipes.ensembles import MDSettings, build_dynamics
from ase_equivariant.recipes.frames import drifts, fixed_atoms, other_constraints
from ase_equivariant.recipes.limits import SimulationError
from ase_equivariant.recipes.md import run_md
from ase_equivariant.recipes.md_files import AppendedFile
from ase_equivariant.recipes.md_log import read_log
from ase_equivariant.recipes.temperature import degrees_of_freedom, draw_velocities


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=0)
    atoms.calc = EMT()
    return atoms


def silicon() -> Atoms:
    """With our own calculator, whose forces do not depend on the history of its neighbour list, as EMT's do."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = EquivariantCalculator("si", preset="md")
    return atoms


def settings(ensemble: str, **changes) -> MDSettings:
    return MDSettings.parse({"ensemble": ensemble, "timestep_fs": 2.0, "temperature_K": 400.0, "seed": 3, **changes})


@pytest.mark.parametrize("ensemble", ["nve", "bussi"])
def test_velocities_of_zero_are_none(tmp_path, ensemble):
    """CONTCAR of a relaxation has them: the run stayed at 0 K, and Bussi refused it."""
    drawn, resting = copper(), copper()
    resting.set_momenta(np.zeros((len(resting), 3)))
    for name, atoms in (("drawn", drawn), ("resting", resting)):
        run_md(atoms, 1, settings(ensemble), folder=tmp_path, name=name)
    np.testing.assert_array_equal(resting.get_momenta(), drawn.get_momenta())
    assert drawn.get_kinetic_energy() > 0


def test_nve_conserves_energy_and_momentum(tmp_path):
    atoms = copper()
    result = run_md(atoms, 200, settings("nve"), folder=tmp_path, interval=5)
    log = read_log(result.files.log)
    assert np.ptp(log["total_eV"]) < 0.02 * np.ptp(log["potential_eV"])
    assert abs(result.drift_meV_per_atom_ps) < 0.5
    np.testing.assert_allclose(atoms.get_momenta().sum(0), 0, atol=1e-10)
    np.testing.assert_array_equal(log["step"], np.arange(0, 201, 5))
    np.testing.assert_allclose(log["time_ps"], log["step"] * 0.002)


@pytest.mark.parametrize("ensemble", ["langevin", "bussi"])
def test_thermostats_reach_the_temperature(tmp_path, ensemble):
    atoms = copper() * (2, 2, 2)
    atoms.calc = EMT()
    run_md(atoms, 700, settings(ensemble, timestep_fs=5.0, friction_per_ps=20.0), folder=tmp_path, interval=10)
    log = read_log(tmp_path / "md.md.csv")
    assert abs(log["temperature_K"][20:].mean() - 400) < 60


def test_npt_follows_the_pressure(tmp_path):
    volumes = []
    for pressure in (0.0, 10.0):
        atoms = copper()
        run_md(
            atoms,
            400,
            settings("npt", pressure_GPa=pressure, taup_fs=200.0, temperature_K=100.0),
            folder=tmp_path,
            name=f"p{pressure:g}",
            interval=10,
        )
        volumes.append(read_log(tmp_path / f"p{pressure:g}.md.csv")["volume_A3"][20:].mean())
    assert volumes[1] / volumes[0] == pytest.approx(1 - 10 / 160, abs=0.03)  # EMT copper: bulk modulus about 140 GPa


def test_trajectory_holds_what_the_log_says(tmp_path):
    atoms = copper()
    result = run_md(atoms, 20, settings("langevin"), folder=tmp_path, interval=10)
    frames = read(result.files.trajectory, ":")
    log = read_log(result.files.log)
    assert [frame.info["step"] for frame in frames] == [0, 10, 20]
    np.testing.assert_allclose([f.get_potential_energy() for f in frames], log["potential_eV"], atol=1e-6)
    np.testing.assert_allclose([f.get_temperature() for f in frames], log["temperature_K"], rtol=1e-5)  # all momenta
    np.testing.assert_allclose(frames[-1].positions, atoms.positions, atol=1e-7)
    assert frames[-1].get_forces().shape == (len(atoms), 3)


def test_notes_that_no_file_can_hold_do_no_harm(tmp_path):
    """As ASE's surface builders leave in atoms.info: a dictionary with arrays."""
    atoms = copper()
    atoms.info.update(adsorbate_info={"cell": np.eye(2)}, label="kept", number=3)
    run_md(atoms, 0, settings("nve"), folder=tmp_path)
    assert "adsorbate_info" in atoms.info
    frame = read(tmp_path / "md.md.extxyz")
    assert (frame.info["label"], frame.info["number"]) == ("kept", 3)
    assert "adsorbate_info" not in frame.info


def test_a_molecule_starts_without_drift_and_rotation(tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.calc = EMT()
    run_md(atoms, 0, settings("nve", temperature_K=300.0), folder=tmp_path)
    np.testing.assert_allclose(atoms.get_momenta().sum(0), 0, atol=1e-10)
    np.testing.assert_allclose(atoms.get_angular_momentum(), 0, atol=1e-10)


def test_velocities_that_are_there_are_kept(tmp_path):
    atoms = copper()
    momenta = np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_momenta(momenta)
    run_md(atoms, 0, settings("nve"), folder=tmp_path)
    np.testing.assert_array_equal(atoms.get_momenta(), momenta)


@pytest.mark.parametrize(
    ("ensemble", "system", "left"),
    [
        ("langevin", "H2O", 9),  # friction and noise act on everything
        ("nve", "H2O", 3),
        ("bussi", "H2O", 3),
        ("bussi", "CO", 1),
        ("bussi", "CO2", 3),
        ("bussi", "Cu4", 9),
        ("npt", "Cu4", 9),
        ("npt-full", "Cu4", 9),
    ],
)
def test_thermostats_count_what_shares_the_kinetic_energy(ensemble, system, left):
    """Total momenta that stay zero do not, or the rest would be too hot: a vibrating water by 9/3."""
    atoms = bulk("Cu", cubic=True) if system == "Cu4" else molecule(system)
    atoms.calc = EMT()
    rng = np.random.default_rng(0)
    draw_velocities(atoms, 300.0, rng)
    if system == "CO":
        with np.errstate(invalid="ignore"):
            ZeroRotation(atoms)
    fast = settings(ensemble, temperature_K=300.0, timestep_fs=0.5, taut_fs=20.0 if "npt" in ensemble else 2.0)
    dynamics = build_dynamics(atoms, fast, rng)
    dof = degrees_of_freedom(atoms, ensemble)
    assert dof == left
    kinetic = []
    for _ in range(4000):
        dynamics.step()
        kinetic.append(atoms.get_kinetic_energy())
    if ensemble != "nve":
        assert 2 * np.mean(kinetic) / (left * units.kB) == pytest.approx(300, rel=0.2)
    if "npt" not in ensemble and ensemble != "langevin":
        np.testing.assert_allclose(atoms.get_momenta().sum(0), 0, atol=1e-9)
    if "npt" in ensemble:
        before = dynamics.get_conserved_energy()
        for _ in range(400):
            dynamics.step()
        assert abs(dynamics.get_conserved_energy() - before) < 5e-3


def test_a_drift_of_the_user_counts():
    atoms = copper()
    atoms.set_velocities(np.full((len(atoms), 3), 0.01))
    assert degrees_of_freedom(atoms, "bussi") == 3 * len(atoms)
    atoms.set_constraint(FixAtoms([0]))
    assert degrees_of_freedom(atoms, "bussi") == 3 * len(atoms) - 3


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi", "npt", "npt-full"])
def test_a_run_made_longer_is_that_of_one_call(tmp_path, ensemble):
    """A last frame between two intervals goes when the run does on, and stays if it does not."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_md(silicon(), 40, settings(ensemble), folder=whole, interval=10)
    run_md(silicon(), 17, settings(ensemble), folder=parts, interval=10)
    assert [frame.info["step"] for frame in read(parts / "md.md.extxyz", ":")] == [0, 10, 17]
    ended = (parts / "md.md.extxyz").read_bytes(), (parts / "md.md.csv").read_bytes()
    run_md(silicon(), 17, settings(ensemble), folder=parts, interval=10, restart=True)
    assert ((parts / "md.md.extxyz").read_bytes(), (parts / "md.md.csv").read_bytes()) == ended
    run_md(silicon(), 40, settings(ensemble), folder=parts, interval=10, restart=True)
    for name in ("md.md.extxyz", "md.md.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_what_constraints_a_trajectory_had_is_known_from_its_file(tmp_path):
    """ASE writes those of whole atoms and of Cartesian directions only: drift was then taken from the rest."""
    atoms = copper()
    atoms.set_constraint([FixScaled([0]), FixCartesian([1], mask=(True, False, False)), FixedPlane([2, 3], (1, 1, 0))])
    files = run_md(atoms, 4, settings("nve"), folder=tmp_path, interval=2).files
    frames = read(files.trajectory, ":")
    assert np.flatnonzero(fixed_atoms(frames[-1])).tolist() == [0]
    assert other_constraints(frames[-1]) == ["FixedPlane"]
    assert not drifts(frames[-1])
    with pytest.raises(ValueError, match="constrained by FixedPlane, with which"):
        check_constraints(Atoms("H", info=frames[-1].info))

    again = frames[-1].copy()  # the plane is lost
    again.calc = copper().calc
    files = run_md(again, 2, settings("nve"), folder=tmp_path, name="again", interval=2).files
    assert other_constraints(read(files.trajectory, -1)) == []


def test_restart_refuses_other_masses_and_constraints(tmp_path):
    atoms = copper()
    atoms.set_constraint(FixAtoms([0]))
    run_md(atoms, 10, settings("nve"), folder=tmp_path, interval=10)
    with pytest.raises(ValueError, match="a frame every 10 steps, now every 5: use the same interval"):
        run_md(atoms, 20, settings("nve"), folder=tmp_path, restart=True, interval=5)
    with pytest.raises(ValueError, match=r"had other constraints .*FixAtoms"):
        run_md(copper(), 20, settings("nve"), folder=tmp_path, restart=True)
    heavy = copper()
    heavy.set_constraint(FixAtoms([0]))
    heavy.set_masses([65] * len(heavy))
    with pytest.raises(ValueError, match="had other masses"):
        run_md(heavy, 20, settings("nve"), folder=tmp_path, restart=True)
    run_md(atoms, 20, settings("nve"), folder=tmp_path, restart=True, interval=10)


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi", "npt", "npt-full"])
def test_restart_gives_the_same_bytes(tmp_path, ensemble):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_md(silicon(), 40, settings(ensemble), folder=whole, interval=10)
    run_md(silicon(), 20, settings(ensemble), folder=parts, interval=10)
    # what a kill leaves behind the last restart point
    with open(parts / "md.md.extxyz", "a") as stream:
        stream.write("8\nhalf a fra")
    with open(parts / "md.md.csv", "a") as stream:
        stream.write("30,0.06,")
    run_md(silicon(), 40, settings(ensemble), folder=parts, interval=10, restart=True)
    for name in ("md.md.extxyz", "md.md.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


KILLED = """
import sys, time
from ase.build import bulk
from ase_equivariant import EquivariantCalculator
from ase_equivariant.recipes.ensembles import MDSettings, build_dynamics
from ase_equivariant.recipes.md import run_md
atoms = bulk("Si", cubic=True)
atoms.rattle(0.05, seed=0)
atoms.calc = EquivariantCalculator("si", preset="md")
settings = MDSettings(ensemble="langevin", timestep_fs=2.0, temperature_K=400.0, seed=3)
run_md(atoms, int(sys.argv[2]), settings, folder=sys.argv[1], interval=10, restart="restart" in sys.argv)
"""


def test_sigkill_loses_no_frame_and_doubles_none(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_md(silicon(), 60, settings("langevin"), folder=whole, interval=10)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(killed), "1000000"])
    deadline = time.monotonic() + 300
    log = killed / "md.md.csv"
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 4):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = int(np.load(killed / "md.restart.npz")["step"])
    assert reached > 0
    end = max(reached, 60)
    if end > 60:
        run_md(silicon(), end, settings("langevin"), folder=whole, interval=10, overwrite=True)
    subprocess.run([sys.executable, "-c", KILLED, str(killed), str(end), "restart"], check=True)
    for name in ("md.md.extxyz", "md.md.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_existing_files_are_not_replaced_unasked(tmp_path):
    run_md(copper(), 10, settings("nve"), folder=tmp_path, interval=10)
    before = (tmp_path / "md.md.extxyz").read_bytes()
    with pytest.raises(FileExistsError, match=r"continue with restart, or replace it with overwrite"):
        run_md(copper(), 10, settings("nve"), folder=tmp_path)
    assert (tmp_path / "md.md.extxyz").read_bytes() == before
    run_md(copper(), 0, settings("nve"), folder=tmp_path, overwrite=True)
    assert len(read(tmp_path / "md.md.extxyz", ":")) == 1


def test_labels_that_the_structure_brings_are_superseded(tmp_path):
    """ASE writes no frame that has an energy of its own beside the calculator's; files of another run were gone."""
    atoms = copper()
    atoms.info.update(energy=-1.0, note="kept")
    atoms.arrays["forces"] = np.ones((len(atoms), 3))
    run_md(atoms, 2, settings("nve"), folder=tmp_path, interval=1)
    frames = read(tmp_path / "md.md.extxyz", ":")
    assert len(frames) == 3
    assert all(frame.get_potential_energy() != -1.0 and frame.info["note"] == "kept" for frame in frames)
    assert np.abs(frames[-1].get_forces() - atoms.get_forces()).max() < 1e-6


def test_what_cannot_be_written_leaves_the_files_of_another_run(tmp_path, monkeypatch):
    run_md(copper(), 2, settings("nve"), folder=tmp_path, interval=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("ase_equivariant.recipes.md.frame_record", lambda *_: {}["no place for this"])
    with pytest.raises(KeyError):
        run_md(copper(), 2, settings("nve"), folder=tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("limit", [{"max_force": float("nan")}, {"max_temperature_K": -1.0}])
def test_limits_that_limit_nothing_are_refused(tmp_path, limit):
    with pytest.raises(ValueError, match="limits are above 0"):
        run_md(copper(), 2, settings("nve"), folder=tmp_path, **limit)
    assert not list(tmp_path.iterdir())


def test_restart_refuses_other_settings_structures_and_damage(tmp_path):
    with pytest.raises(FileNotFoundError, match="no restart file"):
        run_md(copper(), 10, settings("nve"), folder=tmp_path, restart=True)
    run_md(copper(), 10, settings("nve"), folder=tmp_path, interval=10)
    with pytest.raises(ValueError, match="another timestep_fs"):
        run_md(copper(), 20, settings("nve", timestep_fs=1.0), folder=tmp_path, restart=True)
    other = copper() * (2, 1, 1)
    other.calc = EMT()
    with pytest.raises(ValueError, match="another structure"):
        run_md(other, 20, settings("nve"), folder=tmp_path, restart=True)
    (tmp_path / "md.restart.npz").write_bytes((tmp_path / "md.restart.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match="not a whole restart file"):
        run_md(copper(), 20, settings("nve"), folder=tmp_path, restart=True)


class Exploding(Calculator):
    """Harmonic until ``calls`` evaluations, then broken."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, calls: int, force: float):
        super().__init__()
        self.calls, self.force = calls, force

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls -= 1
        forces = -0.1 * self.atoms.positions
        if self.calls < 0:
            forces[1, 0] = self.force
        self.results = {"energy": 0.05 * float((self.atoms.positions**2).sum()), "forces": forces}


@pytest.mark.parametrize(("force", "words"), [(np.nan, "not finite"), (1e4, r"atom 1 \(Cu\) is 1e\+04 eV/Å")])
def test_an_explosion_stops_the_run_and_keeps_the_last_good_frame(tmp_path, force, words):
    atoms = copper()
    atoms.calc = Exploding(8, force)
    with pytest.raises(SimulationError, match=rf"^step 8: .*{words}.*last good frame \(step 7\)"):
        run_md(atoms, 100, settings("nve"), folder=tmp_path, interval=5)
    frames = read(tmp_path / "md.md.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 5, 7]
    assert all(np.isfinite(frame.positions).all() for frame in frames)


def test_an_explosion_doubles_no_frame_and_keeps_the_forces_of_the_good_one(tmp_path):
    """Step 5 is written already when step 6 fails; after step 8 the calculator would no longer give step 7's forces."""
    atoms = copper()
    atoms.calc = Exploding(6, np.nan)
    with pytest.raises(SimulationError, match=r"last good frame \(step 5\)"):
        run_md(atoms, 100, settings("nve"), folder=tmp_path, interval=5)
    assert [frame.info["step"] for frame in read(tmp_path / "md.md.extxyz", ":")] == [0, 5]
    assert list(read_log(tmp_path / "md.md.csv")["step"]) == [0, 5]
    atoms = copper()
    atoms.calc = Exploding(8, np.nan)
    with pytest.raises(SimulationError, match=r"last good frame \(step 7\)"):
        run_md(atoms, 100, settings("nve"), folder=tmp_path, interval=5, overwrite=True)
    frame = read(tmp_path / "md.md.extxyz", -1)
    np.testing.assert_allclose(frame.get_forces(), -0.1 * frame.positions, atol=1e-7)
    assert np.isfinite(read_log(tmp_path / "md.md.csv")["potential_eV"]).all()


@pytest.mark.parametrize("name", ["md.md.extxyz", "md.md.csv"])
@pytest.mark.parametrize("damage", ["shortened", "missing", "replaced"])
def test_restart_refuses_files_that_lost_records(tmp_path, name, damage):
    run_md(copper(), 20, settings("nve"), folder=tmp_path, interval=10)
    path = tmp_path / name
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-5] if damage == "shortened" else b"x" * (len(whole) + 10))
    others = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"{name} .*restart point counts on"):
        run_md(copper(), 40, settings("nve"), folder=tmp_path, interval=10, restart=True)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == others
    path.write_bytes(whole)
    run_md(copper(), 40, settings("nve"), folder=tmp_path, interval=10, restart=True)
    assert [frame.info["step"] for frame in read(tmp_path / "md.md.extxyz", ":")] == [0, 10, 20, 30, 40]


def test_restart_refuses_another_calculator(tmp_path):
    run_md(silicon(), 10, settings("nve"), folder=tmp_path, interval=10)
    atoms = silicon()
    atoms.calc = EMT()
    with pytest.raises(ValueError, match=r"another calculator \(calculator = EquivariantCalculator, now EMT\)"):
        run_md(atoms, 20, settings("nve"), folder=tmp_path, restart=True)
    atoms.calc = EquivariantCalculator("si", dtype="float64")
    with pytest.raises(ValueError, match=r"another calculator \(dtype = float32, now float64\)"):
        run_md(atoms, 20, settings("nve"), folder=tmp_path, restart=True)
    atoms.calc = EquivariantCalculator("si", preset="md", skin=0.5)  # the same forces
    run_md(atoms, 20, settings("nve"), folder=tmp_path, restart=True, interval=10)


def test_a_full_disk_leaves_whole_records(tmp_path):
    file = AppendedFile(tmp_path / "log.csv")
    file.append("first\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))  # a write over it is cut short, the next fails
        with pytest.raises(OSError, match="File too large"):
            file.append("second, too long for the disk\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    file.append("third\n")
    file.close()
    assert (tmp_path / "log.csv").read_text() == "first\nthird\n"


def test_a_temperature_beyond_the_limit_stops_the_run(tmp_path):
    with pytest.raises(SimulationError, match=r"temperature is .* K, above the limit of 100"):
        run_md(copper(), 100, settings("nve", temperature_K=1000.0), folder=tmp_path, max_temperature_K=100.0)


def test_ctrl_c_ends_cleanly(tmp_path):
    def interrupt(progress):
        if progress.step == 20:
            raise KeyboardInterrupt

    result = run_md(copper(), 100, settings("langevin"), folder=tmp_path, interval=10, progress=interrupt)
    assert result.interrupted
    assert result.steps == 20
    assert not run_md(copper(), 40, settings("langevin"), folder=tmp_path, interval=10, restart=True).interrupted
    assert len(read(tmp_path / "md.md.extxyz", ":")) == 5


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="did you mean 'temperature_K'"):
        MDSettings.parse({"temperature": 300})
    with pytest.raises(ConfigError, match="ensemble"):
        MDSettings.parse({"ensemble": "nvt"})
    with pytest.raises(ConfigError, match="timestep_fs"):
        MDSettings.parse({"timestep_fs": -1.0})


def test_no_atoms_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="the structure has no atoms"):
        run_md(Atoms(calculator=EMT()), 1, folder=tmp_path)
    assert not any(tmp_path.iterdir())


def test_progress_begins_when_nothing_is_refused_any_more(tmp_path):
    seen = []
    with pytest.raises(ValueError, match="periodic in all three directions"):
        run_md(molecule("N2", calculator=EMT()), 4, settings("npt"), folder=tmp_path, progress=seen.append)
    assert not seen
    run_md(copper(), 4, settings("nve"), folder=tmp_path, interval=2, progress=seen.append)
    assert [now.step for now in seen] == [0, 2, 4]
    run_md(copper(), 6, settings("nve"), folder=tmp_path, interval=2, progress=seen.append, restart=True)
    assert [now.step for now in seen[3:]] == [4, 6]


def test_npt_needs_a_periodic_cell(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = EMT()
    with pytest.raises(ValueError, match="periodic in all three directions"):
        run_md(atoms, 10, settings("npt"), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_settings_in_the_restart_file_are_json(tmp_path):
    run_md(copper(), 0, settings("bussi"), folder=tmp_path)
    with np.load(tmp_path / "md.restart.npz", allow_pickle=False) as state:
        assert json.loads(str(state["settings"]))["ensemble"] == "bussi"
        assert json.loads(str(state["rng"]))["bit_generator"] == "PCG64"
