"""Structures and potentials that LAMMPS is compared on, and the program that runs them under mpirun.

``mpirun -n 2 python lammps_cases.py FOLDER CASE …`` writes FOLDER/CASE-2.npz for each of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io.lammpsdata import write_lammps_data
from ase.units import kcal, mol

from ase_equivariant import Potential, PotentialConfig
from ase_equivariant.architectures import GVPConfig, NequIPConfig
from ase_equivariant.engines.lammps import attach, start_lammps

SPECIES = ("Cl", "H", "Na", "O")  # in the alphabet's order, as ASE numbers LAMMPS' types
CUTOFF = 4.0
GATHERED = {"positions": "x", "forces": "f"}


def potential(architecture: str) -> Potential:
    torch.manual_seed(5)
    shared = {"species": SPECIES, "cutoff": CUTOFF, "num_layers": 3, "num_radial": 4, "avg_num_neighbors": 15.0}
    if architecture == "gvp":
        config = GVPConfig(**shared, num_scalars=6, num_vectors=4, edge_scalars=4)
    else:
        config = NequIPConfig(**shared, l_max=2, irreps_hidden="6x0e+4x1o+2x2e", radial_hidden=(8,))
    made = Potential(PotentialConfig(architecture=config, zbl=True, zbl_inner=1.0, zbl_outer=2.0))
    made.scaling.set(scale=[6.0, 8.0, 10.0, 12.0], shift=[-0.5, 0.3, -0.1, 0.2])
    return made.requires_grad_(False)


def _rattled(atoms: Atoms, cell=None) -> Atoms:
    if cell is not None:
        atoms.set_cell(cell, scale_atoms=True)
    atoms.rattle(0.08, seed=3)
    return atoms


def nacl() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True) * (3, 2, 2)
    del atoms[[7, 20, 21, 22, 50]]
    return _rattled(atoms)


def slab() -> Atoms:
    atoms = fcc111("Na", (4, 4, 3), a=5.3, vacuum=8.0, orthogonal=True)
    atoms.symbols[::3] = "O"
    return _rattled(atoms)


def triclinic() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True) * (2, 2, 2)
    return _rattled(atoms, [[11.28, 0, 0], [3.0, 10.9, 0], [-2.0, 2.5, 10.5]])


def tiny() -> Atoms:
    """Smaller than the cutoff: atoms see their own images."""
    return _rattled(bulk("NaCl", "rocksalt", 5.64), [[3.4, 0, 0], [0.9, 3.6, 0], [0.3, -0.8, 3.9]])


def water() -> Atoms:
    return molecule("H2O", vacuum=6.0)


def gas() -> Atoms:
    """Two clusters in the corners of a large box: most of it is empty."""
    near, far = molecule("H2O"), molecule("H2O")
    near.translate([3, 3, 3])
    far.translate([37, 3.5, 3.2])
    atoms = near + far + Atoms("NaCl", [[5.2, 3.1, 3.3], [3.0, 5.6, 2.2]])
    atoms.set_cell([40, 40, 40])
    atoms.pbc = True
    return atoms


def mixed() -> Atoms:
    """Periodic along y alone."""
    atoms = slab()
    atoms.center(vacuum=4.0, axis=0)
    atoms.pbc = [False, True, False]
    return atoms


@dataclass(frozen=True)
class Case:
    """A structure and a model; with a temperature (K), so many steps of dynamics after it."""

    make: Callable[[], Atoms]
    model: str = "nequip"
    dtype: str = "float64"
    fast: bool | None = None  # compiled where there are compiled kernels
    tiled: bool = False
    units: str = "metal"
    temperature: float = 0
    steps: int = 0
    slow: bool = False

    def potential(self) -> Potential | str:
        return self.model if self.model.startswith("sevennet") else potential(self.model)


STRUCTURES = {"nacl": nacl, "slab": slab, "triclinic": triclinic, "water": water, "gas": gas}
CASES = {
    **{name: Case(make) for name, make in STRUCTURES.items()},
    "tiny": Case(tiny),
    "mixed": Case(mixed),
    "nacl-float32": Case(nacl, dtype="float32"),
    "nacl-eager": Case(nacl, fast=False),
    "gas-eager": Case(gas, fast=False),
    "nacl-gvp": Case(nacl, model="gvp"),
    "nacl-tiled": Case(nacl, tiled=True),
    "triclinic-real": Case(triclinic, units="real"),
    "nacl-hot": Case(nacl, temperature=3000, steps=100),
    "nacl-hot-long": Case(nacl, temperature=3000, steps=500, slow=True),
    "nacl-hot-tiled": Case(nacl, tiled=True, temperature=3000, steps=500, slow=True),
    **{f"{name}-sevennet-0": Case(make, model="sevennet-0", slow=True) for name, make in STRUCTURES.items()},
    "nacl-sevennet-0-eager": Case(nacl, model="sevennet-0", fast=False, slow=True),
    "gas-sevennet-0-eager": Case(gas, model="sevennet-0", fast=False, slow=True),
}
# eV, and bar·Å³ by LAMMPS' constants, in each system's units.
IN_METAL = {"metal": (1.0, 1.0), "real": (kcal / mol, kcal / mol * 1.6021765e6 / 68568.415)}
OUTPUT = """
compute energies all pe/atom
compute shares all stress/atom NULL virial
compute tensor all pressure NULL virial
dump now all custom 1000 /dev/null id c_energies c_shares[1]
thermo_style custom step pe c_tensor[1] etotal
"""
BALANCED = """
balance 1.1 rcb
fix spread all balance 20 1.05 rcb
"""


def start_case(name: str, folder: Path):
    """LAMMPS with the structure and the model attached; and what it has done so far."""
    case, atoms = CASES[name], CASES[name].make()
    lmp = start_lammps(["-log", "none", "-screen", "none"])
    comm = lmp.get_mpi_comm()
    species = [symbol for symbol in SPECIES if symbol in atoms.symbols]
    data = folder / f"{name}-{comm.size}.data"
    if comm.rank == 0:
        atoms.wrap()
        write_lammps_data(data, atoms, units=case.units, specorder=species, masses=True)
    comm.Barrier()
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    style = "comm_style tiled" if case.tiled else ""
    lmp.commands_string(f"units {case.units}\nboundary {boundary}\n{style}\nread_data {data}\nthermo_modify lost error")
    return lmp, attach(lmp, case.potential(), species, dtype=case.dtype, fast=case.fast)


def run_case(name: str, folder: Path) -> None:
    case = CASES[name]
    lmp, statistics = start_case(name, folder)
    lmp.commands_string(OUTPUT)
    if case.tiled:
        lmp.commands_string(BALANCED)
    if case.steps:
        lmp.command(f"velocity all create {case.temperature} 7 loop geom")
        lmp.commands_string(f"timestep 0.001\nfix move all nve\nrun {case.steps}")
    else:
        lmp.command("run 0")
    comm, owned = lmp.get_mpi_comm(), lmp.extract_setting("nlocal")
    found = {key: np.array(lmp.gather_atoms(name, 1, 3)).reshape(-1, 3) for key, name in GATHERED.items()}
    tags = lmp.numpy.extract_atom("id", nelem=owned)[:owned].copy() if owned else np.empty(0, int)
    energies = lmp.numpy.extract_compute("energies", 1, 1)[:owned].copy() if owned else np.empty(0)
    shares = lmp.numpy.extract_compute("shares", 1, 2)[:owned].copy() if owned else np.empty((0, 6))
    gathered = comm.gather((tags, energies, shares))
    ghosts = statistics.num_ghosts, statistics.engine_ghosts
    counts = comm.gather((owned, statistics.builds, *ghosts, statistics.compiled))
    found["energy"], found["total"], found["volume"] = (lmp.get_thermo(key) for key in ("pe", "etotal", "vol"))
    found["pressure"] = np.array(lmp.numpy.extract_compute("tensor", 0, 1))
    energy, pressure = IN_METAL[case.units]
    if comm.rank == 0:
        places, energies, shares = (np.concatenate(parts) for parts in zip(*gathered, strict=True))
        order = np.argsort(places)
        energies, shares = energies * energy, shares * pressure
        for key, unit in {"energy": energy, "total": energy, "forces": energy, "pressure": pressure}.items():
            found[key] = found[key] * unit
        np.savez(
            folder / f"{name}-{comm.size}.npz", counts=counts, energies=energies[order], shares=shares[order], **found
        )
    lmp.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[2:]:
        run_case(case, Path(sys.argv[1]))
