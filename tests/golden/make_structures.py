"""Structures on which universal models are compared with the code they came from.

``python tests/golden/make_structures.py tests/golden/structures.extxyz``

74 elements; molecules, an isolated atom, a pair near the cutoff, bulk, strained and skewed cells, slabs with
adsorbates, a chain, a random mixture; 1 to 200 atoms; every kind of periodicity.
"""

import sys

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, graphene, molecule
from ase.data import atomic_numbers as number_of
from ase.data import covalent_radii
from ase.io import write

CATIONS = [
    "Li", "Na", "K", "Rb", "Cs", "Be", "Mg", "Ca", "Sr", "Ba", "Sc", "Y", "La", "Ti", "Zr", "Hf", "V",
    "Nb", "Ta", "Cr", "Mo", "W", "Mn", "Re", "Fe", "Ru", "Os", "Co", "Rh", "Ir", "Ni", "Pd", "Pt", "Cu",
    "Ag", "Au", "Zn", "Cd", "Hg", "Al", "Ga", "In", "Tl",
]  # fmt: skip
ANIONS = [
    "O", "F", "S", "Cl", "Se", "Br", "Te", "I", "N", "P", "As", "Sb", "C", "Si", "Ge", "Sn", "Pb", "B",
    "Bi", "H",
]  # fmt: skip
LANTHANIDES = [
    "Ce", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Yb",
]  # fmt: skip


def compounds(rng):
    """Rocksalt cells of a cation and an anion, strained and rattled; each element at least once."""
    for k, cation in enumerate([*CATIONS, *LANTHANIDES]):
        anion = ANIONS[k % len(ANIONS)]
        a = 2 * sum(covalent_radii[number_of[symbol]] for symbol in (cation, anion))
        yield strained(bulk(f"{cation}{anion}", "rocksalt", a=1.02 * a), rng)


def strained(atoms, rng):
    """The atoms in a cell strained by 2 % and rattled by 0.04 Å."""
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(0, 0.04, atoms.positions.shape)
    return atoms


def mixture(rng, symbols, count, length):
    """Random atoms in a skewed box, none closer than 1.9 Å."""
    cell = length * (np.eye(3) + np.array([[0, 0, 0], [0.3, 0, 0], [0.1, -0.25, 0]]))
    atoms = Atoms(cell=cell, pbc=True)
    while len(atoms) < count:
        trial = atoms + Atoms([symbols[len(atoms) % len(symbols)]], positions=[rng.uniform(size=3) @ cell])
        if len(atoms) == 0 or trial.get_distances(-1, range(len(atoms)), mic=True).min() > 1.9:
            atoms = trial
    return atoms


def structures():
    rng = np.random.default_rng(2026)
    for name in ("H2O", "CH3CH2OH", "SO2", "PH3", "ClF3", "SiF4", "C6H6", "LiF", "CH3SiH3", "NaCl"):
        atoms = molecule(name)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        yield atoms
    yield Atoms("Fe")
    yield Atoms("CO", positions=[[0, 0, 0], [2.8, 2.8, 2.8]])
    yield from compounds(rng)
    for atoms in (bulk("Si"), bulk("Cu", cubic=True), bulk("Fe"), bulk("Ti"), bulk("GaAs", "zincblende", a=5.65)):
        yield strained(atoms, rng)
    yield strained(bulk("MgO", "rocksalt", a=4.21, cubic=True) * (5, 5, 1), rng)
    slab = fcc111("Pt", (2, 2, 4), vacuum=8.0)
    add_adsorbate(slab, molecule("CO"), 1.9, "ontop")
    slab.pbc = (True, True, False)
    yield strained(slab, rng)
    sheet = graphene(size=(2, 2, 1), vacuum=6.0)
    yield strained(sheet, rng)
    chain = Atoms(
        "ClAuClAu", positions=[[0, 0, 0.3], [0, 0, 2.3], [0, 0.4, 4.6], [0.2, 0, 6.7]], cell=[0, 0, 9.0], pbc=(0, 0, 1)
    )
    yield chain
    yield mixture(rng, ["Ca", "Ti", "O", "O", "O", "Zr", "N", "Al"], 60, 10.0)
    yield strained(bulk("Al", cubic=True) * (3, 3, 3), rng)


if __name__ == "__main__":
    frames = list(structures())
    elements = set().union(*(frame.symbols for frame in frames))
    write(sys.argv[1], [Atoms(f.symbols, f.positions, cell=f.cell, pbc=f.pbc) for f in frames], format="extxyz")
    print(f"{len(frames)} structures, {sum(map(len, frames))} atoms, {len(elements)} elements")
