import pytest
from ase.io import write
from ase.units import Bohr, Hartree
from emt_data import emt_atoms
from readout_data import make_potential, water

from ase_equivariant.graph.convert import atoms_to_graph


@pytest.fixture(scope="session")
def emt_file(tmp_path_factory):
    """An extxyz file of 12 labelled crystals."""
    path = tmp_path_factory.mktemp("data") / "emt.xyz"
    write(path, emt_atoms())
    return path


@pytest.fixture
def labelled(tmp_path):
    """A file with labels in atomic units, as another network gives them."""
    teacher, structures = make_potential(), []
    for seed in range(12):
        atoms = water(seed)
        found = teacher(atoms_to_graph(atoms, teacher.cutoff))
        atoms.info["U"] = float(found["energy"][0])
        atoms.info["mu"] = found["dipole"][0].numpy() / Bohr
        atoms.info["alpha"] = found["polarizability"][0].numpy().ravel() / (Bohr**2 / Hartree)
        atoms.arrays["q"] = found["charges"].numpy()
        structures.append(atoms)
    write(tmp_path / "water.xyz", structures, format="extxyz")
    return tmp_path / "water.xyz"
