"""What a user does with a universal model: lattice constants, relaxation and MD of varied materials. Minutes."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, graphene, molecule, mx2, nanotube
from ase.spacegroup import crystal

from ase_equivariant import EquivariantCalculator
from ase_equivariant.io.catalog import CATALOG
from ase_equivariant.io.install import installed_files
from ase_equivariant.recipes.ensembles import MDSettings
from ase_equivariant.recipes.eos import equation_of_state
from ase_equivariant.recipes.md import run_md
from ase_equivariant.recipes.relax import relax

pytestmark = pytest.mark.slow

# Å, PBE: Haas, Tran, Blaha, Phys. Rev. B 79, 085104 (2009), table I.
PBE_LATTICE = {
    "Si": (lambda a: bulk("Si", a=a), 5.469),
    "Cu": (lambda a: bulk("Cu", a=a), 3.632),
    "NaCl": (lambda a: bulk("NaCl", "rocksalt", a=a), 5.698),
    "MgO": (lambda a: bulk("MgO", "rocksalt", a=a), 4.261),
}


def universal(name, **settings):
    known = CATALOG[name]
    if not installed_files(known):
        pytest.skip(f"{name} is not installed: ase-equivariant models get {name}")
    return EquivariantCalculator(name, modal="PBE" if known.modalities else None, **settings)


@pytest.mark.parametrize("material", PBE_LATTICE)
@pytest.mark.parametrize("name", [name for name in CATALOG if "pft" not in name])
def test_lattice_constants(name, material, check):
    make, expected = PBE_LATTICE[material]
    atoms = make(expected)
    atoms.calc = universal(name)
    result = equation_of_state(atoms)
    check(f"{name}: lattice constants against PBE", abs(result.linear_strain), 0.015)
    assert 20 < result.bulk_modulus_GPa < 200


def slab_with_co():
    slab = fcc111("Pt", (2, 2, 3), vacuum=7.0)
    add_adsorbate(slab, molecule("CO"), 1.9, "ontop", mol_index=1)  # carbon down
    return slab


def quartz():
    positions = [(0.4697, 0, 0), (0.4135, 0.2669, 0.1191)]
    return crystal(("Si", "O"), positions, spacegroup=152, cellpar=[4.916, 4.916, 5.405, 90, 90, 120])


MATERIALS = {
    "Si": lambda: bulk("Si", cubic=True),
    "Cu": lambda: bulk("Cu", cubic=True),
    "Fe": lambda: bulk("Fe", cubic=True) * (2, 2, 2),
    "Ti": lambda: bulk("Ti") * (2, 2, 2),
    "Na": lambda: bulk("Na", cubic=True) * (2, 2, 2),
    "NaCl": lambda: bulk("NaCl", "rocksalt", a=5.64, cubic=True),
    "MgO": lambda: bulk("MgO", "rocksalt", a=4.21, cubic=True),
    "GaAs": lambda: bulk("GaAs", "zincblende", a=5.65, cubic=True),
    "CsCl": lambda: bulk("CsCl", "cesiumchloride", a=4.12) * (2, 2, 2),
    "CaF2": lambda: bulk("CaF2", "fluorite", a=5.46, cubic=True),
    "ZnO": lambda: bulk("ZnO", "wurtzite", a=3.25, c=5.2) * (2, 2, 1),
    "SrTiO3": lambda: crystal(
        ("Sr", "Ti", "O"), [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.905] * 3 + [90] * 3
    ),
    "quartz": quartz,
    "graphene": lambda: graphene(size=(2, 2, 1), vacuum=6.0),
    "MoS2": lambda: mx2("MoS2", size=(2, 2, 1), vacuum=6.0),
    "nanotube": lambda: nanotube(5, 0, length=1, vacuum=5.0),
    "CO on Pt(111)": slab_with_co,
    "ethanol": lambda: molecule("CH3CH2OH"),
    "benzene": lambda: molecule("C6H6"),
    "hydrogen gas": lambda: hydrogen(),
    "LiFePO4-like glass": lambda: glass(),
}  # fmt: skip


def hydrogen():
    ends = [(x, y, z + d) for x in (0, 4) for y in (0, 4) for z, d in ((0, 0), (0, 0.75))]
    return Atoms("H8", positions=ends, cell=[8, 8, 8], pbc=True)


def glass():
    rng = np.random.default_rng(0)
    symbols = ["Li", "Fe", "P", "O", "O", "O", "O"] * 3
    atoms = Atoms(cell=[7.0] * 3, pbc=True)
    while len(atoms) < len(symbols):
        trial = atoms + Atoms([symbols[len(atoms)]], positions=[rng.uniform(0, 7, 3)])
        if len(atoms) == 0 or trial.get_distances(-1, range(len(atoms)), mic=True).min() > 1.6:
            atoms = trial
    return atoms


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("name", ["sevennet-0", "nequix-mp-1"])
def test_relaxing_and_md_of_varied_materials(name, material, tmp_path):
    atoms = MATERIALS[material]()
    atoms.rattle(0.05, seed=1)
    atoms.calc = universal(name)
    result = relax(atoms, fmax=0.05, steps=200, trajectory=tmp_path / "relax.extxyz")
    assert np.isfinite(result.energy_after_eV)
    assert result.energy_after_eV <= result.energy_before_eV
    atoms.calc = universal(name, preset="md")
    settings = MDSettings(ensemble="langevin", temperature_K=500.0, timestep_fs=1.0, seed=2)
    outcome = run_md(atoms, 200, settings, folder=tmp_path, interval=50)
    assert outcome.steps == 200
    assert np.isfinite(atoms.positions).all()
