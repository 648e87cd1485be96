"""The published data sets are readable as they are."""

import numpy as np
import pytest

from ase_equivariant.training.doctor.examine import examine_files
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.readers import read_frames
from ase_equivariant.training.references import least_squares_energies, species_of

pytestmark = pytest.mark.shared_data

# file, options, structures, species, whether there are forces and stress
FILES = [
    ("rmd17/rmd17_ethanol_train_01.npz", {}, 1000, "H C O", True, False),
    ("rmd17/rmd17_benzene_test_01.npz", {"labels": "original"}, 1000, "H C", True, False),
    ("3bpa/train_300K.xyz", {}, 500, "H C N O", True, False),
    ("3bpa/iso_atoms.xyz", {}, 4, "H C N O", False, False),
    ("acac/train_300K.xyz", {}, 500, "H C O", True, False),
    ("acac/isolated_atoms.xyz", {}, 3, "H C O", False, False),
    ("ccsd/ethanol_ccsd_t_train.xyz", {}, 1000, "H C O", True, False),
    ("mlearn/Si_test.xyz", {}, None, "Si", True, True),
    ("alloys_oxides/SrTiO3.xyz", {}, 300, "O Ti Sr", True, True),
    ("water_pbe0ts/data_0.xyz", {}, None, "H O", True, False),
    ("small_molecules/small_mols_mini_test.npz", {}, 595, "H C N O", True, False),
    (
        "water_tensors/water_dimer_1000.xyz",
        {"energy_key": "potential", "units": "Hartree"},
        1000,
        "H O",
        False,
        False,
    ),
]


@pytest.mark.parametrize(("file", "options", "count", "species", "has_forces", "has_stress"), FILES)
def test_file(shared_data, file, options, count, species, has_forces, has_stress):
    frames = read_frames(shared_data / file, LabelConfig(**options))
    assert count is None or len(frames) == count
    assert species_of(frames) == tuple(species.split())
    assert all(frame.energy is not None for frame in frames)
    assert all((frame.forces is not None) == has_forces for frame in frames)
    assert all((frame.stress is not None) == has_stress for frame in frames)


def test_elements_of_all_frames_of_a_large_set(shared_data):
    frames = read_frames(shared_data / "mptrj_subset" / "mptrj-random-1k.xyz")
    assert len(frames) == 1000
    assert len(species_of(frames)) > 80
    assert all(frame.stress is not None for frame in frames)


def test_units_of_rmd17_agree_with_electronvolts(shared_data):
    """CCSD(T) in eV and PBE in kcal/mol: the energy of an ethanol differs by far less than a factor of 23."""
    rmd17 = read_frames(shared_data / "rmd17" / "rmd17_ethanol_train_01.npz")
    ccsd = read_frames(shared_data / "ccsd" / "ethanol_ccsd_t_train.xyz")
    assert np.mean([f.energy for f in rmd17]) == pytest.approx(np.mean([f.energy for f in ccsd]), rel=0.01)


def test_atomization_energies_of_molecules_follow_from_least_squares(shared_data):
    """A fit of energies of elements explains different molecules to a few eV out of thousands."""
    frames = read_frames(shared_data / "small_molecules" / "small_mols_mini_train.npz")
    species = species_of(frames)
    fitted = least_squares_energies(species, frames)
    left = [f.energy - sum(fitted[species.index(s)] for s in f.atoms.get_chemical_symbols()) for f in frames]
    assert np.std(left) < 2.0


# What the doctor says of published sets: no errors, apart from what is wrong with them.
SOUND = [
    (["rmd17/rmd17_aspirin_train_01.npz", "rmd17/rmd17_aspirin_test_01.npz"], {}),
    (["acac/train_300K.xyz", "acac/test_MD_300K.xyz"], {}),
    (["ccsd/ethanol_ccsd_t_train.xyz"], {}),
    (["small_molecules/small_mols_mini_train.npz", "small_molecules/small_mols_mini_test.npz"], {}),
    (["mlearn/Si_train.xyz", "mlearn/Si_test.xyz"], {}),
    (["mptrj_subset/mptrj-random-1k.xyz"], {}),
    (["alloys_oxides/SrTiO3.xyz"], {}),
    (["water_tensors/water_monomer_1000.xyz"], {"energy_key": "potential", "units": "Hartree"}),
]


@pytest.mark.parametrize(("files", "options"), SOUND)
def test_doctor_finds_no_error_in_sound_data(shared_data, files, options):
    report = examine_files([shared_data / files[0]], [shared_data / f for f in files[1:]], LabelConfig(**options))
    assert [f for f in report.findings if f.severity == "error"] == []


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        (["rmd17/rmd17_ethanol_train_01.npz"], {"units": "eV"}, "looks like energies in kcal/mol with forces in"),
        (["ccsd/ethanol_ccsd_t_train.xyz"], {"units": "kcal/mol"}, "looks like energies in eV with forces in eV/Å"),
        (["water_tensors/water_dimer_1000.xyz"], {"energy_key": "potential"}, "looks like energies in Hartree"),
        (["rmd17/rmd17_aspirin_train_01.npz", "rmd17/rmd17_aspirin_test_02.npz"], {}, "5 test frames are in the train"),
        (["mlearn/Cu_train.xyz"], {}, "stresses xz, yz go with the shears yz, xz"),
    ],
)
def test_doctor_finds_what_is_wrong(shared_data, files, options, says):
    report = examine_files([shared_data / files[0]], [shared_data / f for f in files[1:]], LabelConfig(**options))
    (error,) = [f for f in report.findings if f.severity == "error"]
    assert says in error.message
