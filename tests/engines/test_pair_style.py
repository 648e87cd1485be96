"""``pair_style equivariant``, LAMMPS without Python, against the ASE calculator."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io.lammpsdata import write_lammps_data
from engines.launch import mpirun, why_not

from ase_equivariant import EquivariantCalculator, Potential, PotentialConfig
from ase_equivariant.architectures import GVPConfig, NequIPConfig
from ase_equivariant.engines.lammps_plugin import LIBRARY, build
from ase_equivariant.engines.network_image import write_network_image
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.freeze import NotFreezableError
from ase_equivariant.potential.frozen import FrozenPotential

if reason := why_not() or ("no compiled kernels" if native.best_level() < 0 else ""):
    pytest.skip(reason, allow_module_level=True)

from engines.lammps_cases import SPECIES, STRUCTURES

BAR_A3 = 1.6021765e6  # LAMMPS' bar·Å³ in an eV
NAMES = [*STRUCTURES, "hot"]
INPUT = """
units metal
boundary {boundary}
plugin load {library}
read_data {name}.data
pair_style equivariant
pair_coeff * * {model} {species}
compute energies all pe/atom
compute shares all stress/atom NULL virial
thermo_style custom step pe etotal vol
thermo_modify format float %.16g lost error
dump now all custom 200 {out} id x y z fx fy fz c_energies c_shares[*]
dump_modify now sort id format float %.16g
timestep 0.001
velocity all create {temperature} 7 loop geom
fix move all nve
run {steps}
clear
"""


@cache
def potential() -> Potential:
    torch.manual_seed(5)
    config = NequIPConfig(
        species=SPECIES, cutoff=4.0, num_layers=3, num_radial=4, avg_num_neighbors=15.0, l_max=2,
        irreps_hidden="6x0e+4x1o+2x2e", radial_hidden=(8,), tensor_square=True,
    )  # fmt: skip
    made = Potential(PotentialConfig(architecture=config))
    made.scaling.set(scale=[6.0, 8.0, 10.0, 12.0], shift=[-0.5, 0.3, -0.1, 0.2])
    return made.requires_grad_(False)


def structure(name):
    atoms = STRUCTURES["nacl" if name == "hot" else name]()
    atoms.wrap()
    return atoms


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the pair style, the exported model in both precisions, and structures."""
    folder = tmp_path_factory.mktemp("pair_style")
    assert build(folder).name == LIBRARY
    for dtype in ("float32", "float64"):
        write_network_image(folder / f"{dtype}.network", potential(), getattr(torch, dtype))
    for name in NAMES:
        atoms = structure(name)
        species = [symbol for symbol in SPECIES if symbol in atoms.symbols]
        write_lammps_data(folder / f"{name}.data", atoms, units="metal", specorder=species, masses=True)
    return folder


def commands(folder: Path, name: str, dtype: str, out: str) -> str:
    atoms, hot = structure(name), name == "hot"
    return INPUT.format(
        boundary=" ".join("p" if periodic else "f" for periodic in atoms.pbc),
        library=folder / LIBRARY,
        name=name,
        model=f"{dtype}.network",
        species=" ".join(symbol for symbol in SPECIES if symbol in atoms.symbols),
        steps=200 if hot else 0,
        temperature=3000 if hot else 0,
        out=out,
    ).replace("velocity all create 0 7 loop geom\n", "")


@pytest.fixture(scope="module")
def results(folder):
    @cache
    def run(ranks: int):
        jobs = [(name, dtype) for name in NAMES for dtype in ("float64", "float32")]
        text = "".join(commands(folder, name, dtype, f"{name}-{dtype}-{ranks}.dump") for name, dtype in jobs)
        (folder / f"in.{ranks}").write_text(text)
        words = (str(Path(sys.executable).with_name("lmp")), "-in", f"in.{ranks}", "-log", "none")
        done = mpirun(ranks, *words, folder=folder)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        energies = [
            rows.splitlines()[-1].split()[1:]
            for rows in re.findall(r"^ +Step .*\n((?: +[\d.e+-]+.*\n)+)", done.stdout, re.M)
        ]
        return {job: (energies[k], read(folder / f"{job[0]}-{job[1]}-{ranks}.dump")) for k, job in enumerate(jobs)}

    return lambda name, dtype, ranks: run(ranks)[name, dtype]


def read(path: Path) -> np.ndarray:
    """Rows of the last frame: id x y z fx fy fz energy and six shares of the pressure."""
    text = path.read_text().split("ITEM: ATOMS")[-1].split("\n", 1)[1]
    return np.array([[float(word) for word in row.split()] for row in text.splitlines()])


RANKS = (1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4)))


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", list(STRUCTURES))
def test_lammps_says_what_the_calculator_says(name, dtype, ranks, results, check):
    atoms = structure(name)
    atoms.calc = EquivariantCalculator(potential())
    (energy, *_), found = results(name, dtype, ranks)
    allowed = 1e-10 if dtype == "float64" else 2e-4
    check(f"pair style in {dtype}: energy (eV)", abs(float(energy) - atoms.get_potential_energy()), allowed)
    check(f"pair style in {dtype}: forces (eV/Å)", np.abs(found[:, 4:7] - atoms.get_forces()).max(), allowed)
    energies = atoms.get_potential_energies()
    check(f"pair style in {dtype}: energies of atoms (eV)", np.abs(found[:, 7] - energies).max(), allowed)
    graph = atoms_to_graph(atoms, 4.0)
    i, j = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
    virials = FrozenPotential(potential())(graph, stress=True)["node_virials"][:, i, j].numpy()
    check(f"pair style in {dtype}: virials of atoms (eV)", np.abs(found[:, 8:] / BAR_A3 + virials).max(), allowed)


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_hot_atoms_that_change_process_end_where_they_end_on_one(ranks, results, check):
    (_, energy, _), one = results("hot", "float64", 1)
    (_, other_energy, _), many = results("hot", "float64", ranks)
    cell = structure("hot").cell.lengths()
    moved = many[:, 1:4] - one[:, 1:4]
    assert np.abs(one[:, 1:4] - structure("hot").positions).max() > 1, "nothing moved"
    check("200 steps at 3000 K, positions (Å)", np.abs(moved - cell * np.round(moved / cell)).max(), 1e-9)
    check("200 steps at 3000 K, forces (eV/Å)", np.abs(many[:, 4:7] - one[:, 4:7]).max(), 1e-8)
    check("200 steps at 3000 K, total energy (eV)", abs(float(energy) - float(other_energy)), 1e-9)


WRONG = {
    "another file": ("nacl.data Cl Na", "no exported model"),
    "no file": ("absent.network Cl Na", "cannot open"),
    "cut off": ("cut.network Cl Na", "cut off"),
    "another version": ("old.network Cl Na", "another version"),
    "another processor": ("future.network Cl Na", "lower --level"),
    "an element it does not know": ("float64.network Cl Xe", "does not know Xe of type 2"),
    "an element too few": ("float64.network Cl", "the element of each of the 2 atom types"),
}


@pytest.mark.parametrize("why", WRONG)
def test_what_cannot_be_read_is_one_clear_line(why, folder):
    good = (folder / "float64.network").read_bytes()
    (folder / "cut.network").write_bytes(good[: len(good) // 2])
    (folder / "old.network").write_bytes(good[:8] + b"\1\2\3\4" + good[12:])
    (folder / "future.network").write_bytes(good[:16] + b"\7\0\0\0" + good[20:])
    words, message = WRONG[why]
    text = commands(folder, "nacl", "float64", "wrong.dump").replace("float64.network Cl Na", words)
    (folder / "in.wrong").write_text(text)
    done = mpirun(1, str(Path(sys.executable).with_name("lmp")), "-in", "in.wrong", "-log", "none", folder=folder)
    assert done.returncode != 0
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
    assert len(lines) >= 1
    assert message in lines[0]


ZBL = {"switched": {"zbl_inner": 1.5, "zbl_outer": 3.7}, "enveloped": {"zbl_envelope_p": 6.0}}


@pytest.mark.parametrize("form", ZBL)
def test_the_repulsion_is_the_calculator_s(form, folder, check):
    """Crystal, slab and triclinic cell, of which pairs are well inside its range, on one and two processes."""
    torch.manual_seed(5)
    config = potential().config.model_copy(update={"zbl": True, **ZBL[form]})
    model = Potential(PotentialConfig.parse(config.model_dump())).requires_grad_(False)
    without = potential()
    model.load_state_dict({**model.state_dict(), **without.state_dict()})
    write_network_image(folder / f"{form}.network", model, torch.float64)
    for ranks in (1, 2):
        for name in ("nacl", "triclinic", "water"):
            out = f"{form}-{name}-{ranks}.dump"
            (folder / "in.zbl").write_text(commands(folder, name, form, out))
            words = (str(Path(sys.executable).with_name("lmp")), "-in", "in.zbl", "-log", "none")
            done = mpirun(ranks, *words, folder=folder)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr
            atoms, found = structure(name), read(folder / out)
            atoms.calc = EquivariantCalculator(model)
            energies, forces = atoms.get_potential_energies(), atoms.get_forces()
            check(f"{form} repulsion: energies of atoms (eV)", np.abs(found[:, 7] - energies).max(), 1e-10)
            check(f"{form} repulsion: forces (eV/Å)", np.abs(found[:, 4:7] - forces).max(), 1e-10)
            i, j = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
            virials = FrozenPotential(model)(atoms_to_graph(atoms, 4.0), stress=True)["node_virials"][:, i, j].numpy()
            check(f"{form} repulsion: virials of atoms (eV)", np.abs(found[:, 8:] / BAR_A3 + virials).max(), 1e-10)
            atoms.calc = EquivariantCalculator(without)
            assert np.abs(atoms.get_forces() - forces).max() > 0.1, "no pair repels another"


def test_what_the_image_cannot_hold_is_refused(tmp_path):
    config = GVPConfig(species=SPECIES, cutoff=4.0, num_layers=2, avg_num_neighbors=15.0)
    with pytest.raises(NotFreezableError, match="GVP"):
        write_network_image(tmp_path / "gvp.network", Potential(PotentialConfig(architecture=config)))
    assert not list(tmp_path.iterdir())
