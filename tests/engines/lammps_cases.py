"""Structures and potentials that LAMMPS is compared on, and the program that runs them under mpirun.

``mpirun -n 2 python lammps_cases.py FOLDER [CASE …]`` writes FOLDER/CASE-2.npz for each of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io.lammpsdata import write_lammps_data

from ase_equivariant import Potential, PotentialConfig
from ase_equivariant.architectures import GVPConfig, NequIPConfig
from ase_equivariant.engines.lammps import attach, start_lammps

SPECIES = ("Cl", "H", "Na", "O")  # in the alphabet's order, as ASE numbers LAMMPS' types
CUTOFF = 4.0


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


# Structure, architecture, dtype, commands before the structure is read, and steps of MD at so many K after it.
CASES = {
    "nacl": (nacl, "nequip", "float64", "", 0),
    "nacl-float32": (nacl, "nequip", "float32", "", 0),
    "nacl-gvp": (nacl, "gvp", "float64", "", 0),
    "nacl-tiled": (nacl, "nequip", "float64", "comm_style tiled", 0),
    "slab": (slab, "nequip", "float64", "", 0),
    "triclinic": (triclinic, "nequip", "float64", "", 0),
    "tiny": (tiny, "nequip", "float64", "", 0),
    "water": (water, "nequip", "float64", "", 0),
    "gas": (gas, "nequip", "float64", "", 0),
    "mixed": (mixed, "nequip", "float64", "", 0),
    "nacl-hot": (nacl, "nequip", "float64", "", 3000),
}
RUN = """
timestep 0.001
fix move all nve
run 100
"""
BALANCED = """
balance 1.1 rcb
fix spread all balance 20 1.05 rcb
"""


def run_case(name: str, folder: Path) -> None:
    make, architecture, dtype, before, temperature = CASES[name]
    atoms = make()
    lmp = start_lammps(["-log", "none", "-screen", "none"])
    comm = lmp.get_mpi_comm()
    species = [symbol for symbol in SPECIES if symbol in atoms.symbols]
    data = folder / f"{name}-{comm.size}.data"
    if comm.rank == 0:
        atoms.wrap()
        write_lammps_data(data, atoms, units="metal", specorder=species, masses=True)
    comm.Barrier()
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    lmp.commands_string(f"units metal\nboundary {boundary}\n{before}\nread_data {data}")
    lmp.command("thermo_modify lost error")
    statistics = attach(lmp, potential(architecture), species, dtype=dtype)
    lmp.commands_string(
        "compute energies all pe/atom\ncompute shares all stress/atom NULL virial\n"
        "compute tensor all pressure NULL virial\n"
        "dump now all custom 100 /dev/null id c_energies c_shares[1]\nthermo_style custom step pe c_tensor[1] etotal"
    )
    if before:
        lmp.commands_string(BALANCED)
    if temperature:
        lmp.commands_string(f"velocity all create {temperature} 7 loop geom\n{RUN}")
    else:
        lmp.command("run 0")
    owned = lmp.extract_setting("nlocal")
    order = {
        "positions": lmp.gather_atoms("x", 1, 3),
        "forces": lmp.gather_atoms("f", 1, 3),
    }
    found = {key: np.array(values).reshape(-1, 3) for key, values in order.items()}
    tags = lmp.numpy.extract_atom("id", nelem=owned)[:owned].copy() if owned else np.empty(0, int)
    energies = lmp.numpy.extract_compute("energies", 1, 1)[:owned].copy() if owned else np.empty(0)
    shares = lmp.numpy.extract_compute("shares", 1, 2)[:owned].copy() if owned else np.empty((0, 6))
    gathered = comm.gather((tags, energies, shares))
    counts = comm.gather((owned, statistics.builds, statistics.num_ghosts, statistics.lammps_ghosts))
    found["energy"] = lmp.get_thermo("pe")
    found["total"] = lmp.get_thermo("etotal")
    found["pressure"] = np.array(lmp.numpy.extract_compute("tensor", 0, 1))
    found["volume"] = lmp.get_thermo("vol")
    if comm.rank == 0:
        places, energies, shares = (np.concatenate(parts) for parts in zip(*gathered, strict=True))
        found["energies"], found["shares"] = np.empty(len(atoms)), np.empty((len(atoms), 6))
        found["energies"][places - 1], found["shares"][places - 1] = energies, shares
        np.savez(folder / f"{name}-{comm.size}.npz", counts=counts, **found)
    lmp.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in sys.argv[2:] or CASES:
        run_case(case, Path(sys.argv[1]))
