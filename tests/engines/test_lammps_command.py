"""``ase-equivariant lammps run`` on two processes: ensembles, errors of one process, and its death."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from ase.io import read
from ase.io.lammpsdata import write_lammps_data
from engines.launch import launch, mpirun, why_not

from ase_equivariant import EquivariantCalculator, ModelCard, save_model

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)

from engines.lammps_cases import CASES, potential

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
    atoms.calc = EquivariantCalculator(potential("nequip"))
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


ENDLESS = """
units metal
read_data start.data
pair_style equivariant
pair_coeff * * Cl Na
velocity all create 600 3 loop geom
fix move all nve
run 1000000
"""
AGAIN = """
units metal
read_restart NAME
pair_style equivariant
pair_coeff * * Cl Na
fix move all nve
run 0
write_data end.data nocoeff
variable e equal pe
print "$(v_e:%.12f) $(step)" file energy.txt
"""
# As `ase-equivariant`, its process's number in a file.
PROGRAM = """
import os, sys, pathlib
pathlib.Path(f"process-{os.environ['PMI_RANK']}").write_text(str(os.getpid()))
from ase_equivariant.cli.main import main
sys.exit(main())
"""


def test_a_killed_process_ends_all_and_a_restart_file_is_left(started, tmp_path, check):
    (tmp_path / "in.lammps").write_text(ENDLESS)
    (tmp_path / "program.py").write_text(PROGRAM)
    run = ("program.py", "lammps", "run", "in.lammps", "--model", "model.safetensors", "--dtype", "float64", "--quiet")
    files = [tmp_path / "restart.a", tmp_path / "restart.b"]
    with launch(2, *run, "--restart-every", "5", folder=tmp_path) as process:
        end = time.monotonic() + 120
        while process.poll() is None and not files[1].is_file() and time.monotonic() < end:
            time.sleep(0.1)
        assert files[1].is_file(), process.communicate(timeout=10)
        os.kill(int((tmp_path / "process-1").read_text()), signal.SIGKILL)
        output = "".join(process.communicate(timeout=60))
    assert process.returncode != 0
    # Who sees it first says it: mpirun, or the other process in its next exchange.
    assert ("BAD TERMINATION" in output and "signal 9" in output.lower()) or "MPI_Abort" in output, output

    older = min(files, key=lambda path: path.stat().st_mtime_ns)  # the other one may have been half written
    (tmp_path / "in.lammps").write_text(AGAIN.replace("NAME", older.name))
    done = started(2, "--dtype", "float64", "--restart-every", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    atoms = read(tmp_path / "end.data", format="lammps-data", atom_style="atomic")
    atoms.symbols = np.where(atoms.arrays["type"] == 1, "Cl", "Na")
    atoms.calc = EquivariantCalculator(potential("nequip"))
    energy, step = (float(word) for word in (tmp_path / "energy.txt").read_text().split())
    assert step % 5 == 0
    assert step > 0
    check("restarted after a kill: energy (eV)", abs(atoms.get_potential_energy() - energy), 1e-9)
