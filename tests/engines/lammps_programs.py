"""Programs of the tests of LAMMPS' methods: ``python lammps_programs.py npt|metadynamics …`` under mpirun."""

from __future__ import annotations

import sys

import numpy as np
from ase.build import molecule
from ase.io import read
from ase.io.lammpsdata import write_lammps_data

from ase_equivariant.engines.lammps import attach, start_lammps

COLVARS = """
colvar {
  name distance
  width 0.05
  lowerBoundary 0.8
  upperBoundary 3.0
  distance {
    group1 {
      atomNumbers 1
    }
    group2 {
      atomNumbers 3
    }
  }
}
metadynamics {
  colvars distance
  hillWeight 0.02
  hillWidth 2.0
  newHillFrequency 10
}
"""


def with_atoms(atoms, species):
    """LAMMPS with the atoms in a box of their own; read by all from one file."""
    lmp = start_lammps(["-log", "none", "-screen", "none"])
    comm = lmp.get_mpi_comm()
    if comm.rank == 0:
        write_lammps_data("start.data", atoms, units="metal", specorder=species, masses=True)
    comm.Barrier()
    lmp.commands_string("atom_modify map array")
    lmp.commands_string(f"units metal\nboundary {' '.join('fp'[p] for p in map(int, atoms.pbc))}\nread_data start.data")
    return lmp, comm


def npt(structure: str, model: str, femtoseconds: str, steps: str, seed: str) -> None:
    """Volumes (Å³) at 300 K and 0 bar, every tenth step."""
    atoms = read(structure)
    species = sorted(set(atoms.symbols))
    lmp, _ = with_atoms(atoms, species)
    attach(lmp, model, species, dtype="float32")
    step = float(femtoseconds) / 1000
    lmp.commands_string(
        f"timestep {step}\nvelocity all create 600 {seed} loop geom\n"
        f"fix ensemble all npt temp 300 300 {50 * step} iso 0 0 {500 * step}\n"
        "variable v equal vol\nfix volumes all ave/time 1 1 10 v_v file volumes.txt\n"
        f"run {steps}"
    )
    lmp.close()


def metadynamics(model: str) -> None:
    """Hills on the distance of two atoms of ethanol, carbon and oxygen; positions at the end."""
    atoms = molecule("CH3CH2OH", vacuum=5.0)
    lmp, comm = with_atoms(atoms, ["C", "H", "O"])
    attach(lmp, model, ["C", "H", "O"])
    if comm.rank == 0:
        with open("bias.colvars", "w") as file:
            file.write(COLVARS)
    comm.Barrier()
    lmp.commands_string(
        "timestep 0.0005\nvelocity all create 300 7 loop geom\nfix move all nve\n"
        "fix bias all colvars bias.colvars output meta\nrun 100"
    )
    positions = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
    bias = lmp.extract_fix("bias", 0, 0)
    owned = comm.gather(lmp.extract_setting("nlocal"))
    if comm.rank == 0:
        np.savez("end.npz", positions=positions, bias=bias, owned=owned)
    lmp.close()


if __name__ == "__main__":
    {"npt": npt, "metadynamics": metadynamics}[sys.argv[1]](*sys.argv[2:])
