"""Files to frames: formats, names, units, and errors that help."""

import io
import pickle
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.db import connect
from ase.io import write
from ase.units import Bohr, Hartree, kcal, mol
from emt_data import emt_atoms

from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.readers import DataError, read_frames, read_structures

KCAL = kcal / mol


def assert_frames_equal_atoms(frames, structures, tolerance=1e-7):
    for frame, atoms in zip(frames, structures, strict=True):
        assert frame.atoms.calc is None
        assert np.array_equal(frame.atoms.numbers, atoms.numbers)
        np.testing.assert_allclose(frame.atoms.positions, atoms.positions, atol=tolerance)
        np.testing.assert_allclose(frame.energy, atoms.get_potential_energy(), atol=tolerance)
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=tolerance)
        np.testing.assert_allclose(frame.stress, atoms.get_stress(voigt=False), atol=tolerance)


@pytest.mark.parametrize("suffix", [".xyz", ".traj", ".json", ".db"])
def test_formats_of_ase(tmp_path, suffix):
    structures = emt_atoms(3)
    path = tmp_path / f"data{suffix}"
    if suffix == ".db":
        with connect(path) as database:
            for atoms in structures:
                database.write(atoms)
    else:
        write(path, structures)
    assert_frames_equal_atoms(read_frames(path), structures)


def test_several_files_are_joined(tmp_path):
    structures = emt_atoms(3)
    write(tmp_path / "a.xyz", structures[:1])
    write(tmp_path / "b.xyz", structures[1:])
    assert_frames_equal_atoms(read_frames([tmp_path / "a.xyz", tmp_path / "b.xyz"]), structures)


def test_charges_by_name_with_labels_and_without(tmp_path):
    atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.97]], info={"total_q": -1, "energy": -3.0})
    write(tmp_path / "a.xyz", atoms)
    config = LabelConfig(charge_key="total_q")
    for read in (read_frames, read_structures):
        assert read(tmp_path / "a.xyz", config)[0].atoms.info["charge"] == -1


def test_a_charge_of_another_name_is_none(tmp_path):
    write(tmp_path / "a.xyz", [Atoms("H", info={"charge": 5, "energy": 0.0, **own}) for own in ({"q": 1}, {})])
    for read in (read_frames, read_structures):
        frames = read(tmp_path / "a.xyz", LabelConfig(charge_key="q"))
        assert [frame.atoms.info.get("charge", 0) for frame in frames] == [1, 0]


@pytest.mark.parametrize("charge", ["neutral", float("nan")])
def test_charges_that_are_no_numbers_are_refused(tmp_path, charge):
    write(tmp_path / "a.traj", [Atoms("H", info={"q": q, "energy": 0.0}) for q in (0, charge)])
    message = rf"a\.traj: structure 1: q = '{charge}' is not a charge in e: .* data\.charge_key"
    for read in (read_frames, read_structures):
        with pytest.raises(DataError, match=message):
            read(tmp_path / "a.traj", LabelConfig(charge_key="q"))


def test_dummy_atoms_are_refused(tmp_path):
    write(tmp_path / "a.xyz", [Atoms("CO", info={"energy": 0.0}), Atoms("CX", info={"energy": 0.0})])
    with pytest.raises(DataError, match=r"a\.xyz: structure 1: atom 1 is no element"):
        read_frames(tmp_path / "a.xyz")


def test_named_labels_in_info_and_arrays(tmp_path):
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]], cell=[4, 4, 4], pbc=True)
    atoms.info.update(dft_energy=-3.0, dft_virial=np.diag([1.0, 2.0, 3.0]))
    atoms.arrays["dft_forces"] = np.arange(6.0).reshape(2, 3)
    write(tmp_path / "a.xyz", atoms)
    with pytest.raises(DataError, match=r"there are dft_energy.*dft_forces; .* energy_key .*--energy-key"):
        read_frames(tmp_path / "a.xyz")
    config = LabelConfig(energy_key="dft_energy", forces_key="dft_forces", virial_key="dft_virial")
    (frame,) = read_frames(tmp_path / "a.xyz", config)
    assert frame.energy == -3.0
    np.testing.assert_array_equal(frame.forces, np.arange(6.0).reshape(2, 3))
    np.testing.assert_allclose(frame.stress, -np.diag([1.0, 2.0, 3.0]) / 64)


def test_named_labels_in_a_database(tmp_path):
    with connect(tmp_path / "a.db") as database:
        database.write(
            Atoms("N2", positions=[[0, 0, 0], [0, 0, 1.1]]), my_energy=-2.5, data={"my_forces": np.ones((2, 3))}
        )
    (frame,) = read_frames(tmp_path / "a.db", LabelConfig(energy_key="my_energy", forces_key="my_forces"))
    assert frame.energy == -2.5
    np.testing.assert_array_equal(frame.forces, np.ones((2, 3)))


def test_a_wrong_name_lists_the_right_ones(tmp_path):
    write(tmp_path / "a.xyz", emt_atoms(1))
    with pytest.raises(DataError, match=r"forces_key = 'force' is in no structure; there are .*forces"):
        read_frames(tmp_path / "a.xyz", LabelConfig(forces_key="force"))


def test_a_file_without_any_labels(tmp_path):
    write(tmp_path / "a.xyz", molecule("H2O"))
    with pytest.raises(DataError, match=r"neither energies nor forces found; there are no labels at all$"):
        read_frames(tmp_path / "a.xyz")


def test_units_convert_energy_length_forces_and_stress(tmp_path):
    structures = emt_atoms(1)
    write(tmp_path / "a.xyz", structures)
    (frame,) = read_frames(tmp_path / "a.xyz", LabelConfig(units="Hartree", length_units="Bohr"))
    (plain,) = read_frames(tmp_path / "a.xyz")
    np.testing.assert_allclose(frame.energy, plain.energy * Hartree)
    np.testing.assert_allclose(frame.forces, plain.forces * Hartree / Bohr)
    np.testing.assert_allclose(frame.stress, plain.stress * Hartree / Bohr**3)
    np.testing.assert_allclose(frame.atoms.positions, plain.atoms.positions * Bohr)
    np.testing.assert_allclose(frame.atoms.cell, plain.atoms.cell * Bohr)


def revised_md17(path, **more):
    rng = np.random.default_rng(0)
    arrays = {
        "nuclear_charges": np.array([8, 1, 1], dtype=np.uint8),
        "coords": rng.normal(size=(5, 3, 3)),
        "energies": rng.normal(size=5),
        "forces": rng.normal(size=(5, 3, 3)),
        "old_energies": rng.normal(size=5),
        "old_forces": rng.normal(size=(5, 3, 3)),
    }
    arrays.update(more)
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize(("labels", "prefix"), [("revised", ""), ("original", "old_")])
def test_revised_md17_is_kcal_per_mol(tmp_path, labels, prefix):
    arrays = revised_md17(tmp_path / "a.npz")
    frames = read_frames(tmp_path / "a.npz", LabelConfig(labels=labels))
    assert len(frames) == 5
    assert frames[0].atoms.get_chemical_formula() == "H2O"
    np.testing.assert_allclose([f.energy for f in frames], arrays[f"{prefix}energies"] * KCAL)
    np.testing.assert_allclose([f.forces for f in frames], arrays[f"{prefix}forces"] * KCAL)
    np.testing.assert_allclose([f.atoms.positions for f in frames], arrays["coords"])
    assert pytest.approx(0.0433641, rel=1e-5) == KCAL


def test_named_labels_in_an_npz(tmp_path):
    arrays = revised_md17(tmp_path / "a.npz")
    frames = read_frames(tmp_path / "a.npz", LabelConfig(energy_key="old_energies", forces_key="old_forces"))
    np.testing.assert_allclose([f.energy for f in frames], arrays["old_energies"] * KCAL)
    np.testing.assert_allclose([f.forces for f in frames], arrays["old_forces"] * KCAL)
    for name in ("energy_key", "forces_key"):
        with pytest.raises(DataError, match="no array 'E0'; it has nuclear_charges, coords"):
            read_frames(tmp_path / "a.npz", LabelConfig(**{name: "E0"}))


@pytest.mark.parametrize("name", ["stress_key", "virial_key"])
def test_stress_of_an_npz_is_refused(tmp_path, name):
    revised_md17(tmp_path / "a.npz")
    with pytest.raises(DataError, match=f"a.npz: {name} = 'sigma': structures of an npz file have no cell"):
        read_frames(tmp_path / "a.npz", LabelConfig(**{name: "sigma"}))


@pytest.mark.parametrize("charge", [np.array(-1), np.array([-1.0]), np.array([0, 1, 0, -1, 2]), np.ones((5, 1))])
def test_charges_of_structures_in_an_npz(tmp_path, charge):
    revised_md17(tmp_path / "a.npz", Q=charge)
    frames = read_frames(tmp_path / "a.npz", LabelConfig(charge_key="Q"))
    expected = np.broadcast_to(charge.reshape(-1), 5)
    assert [frame.atoms.info["charge"] for frame in frames] == expected.tolist()
    assert "charge" not in read_frames(tmp_path / "a.npz")[0].atoms.info


def test_charges_of_an_npz_that_are_not_finite(tmp_path):
    revised_md17(tmp_path / "a.npz", Q=np.array([0, 1, np.nan, 0, 0]))
    with pytest.raises(DataError, match=r"a\.npz: structure 2: Q = 'nan' is not a charge in e"):
        read_frames(tmp_path / "a.npz", LabelConfig(charge_key="Q"))


def test_structures_of_an_npz_without_labels(tmp_path):
    """Energies may be there under another name or not at all."""
    arrays = revised_md17(tmp_path / "a.npz", charge=-1)
    bare = {name: arrays[name] for name in ("coords", "nuclear_charges", "charge")}
    np.savez(tmp_path / "b.npz", **bare, E=arrays["energies"])
    config = LabelConfig(energy_key="E", forces_key="F", length_units="Bohr")
    for file in ("a.npz", "b.npz"):
        frames = read_structures(tmp_path / file, config)
        assert [(frame.energy, frame.atoms.info) for frame in frames] == [(None, {"charge": -1})] * 5
        np.testing.assert_allclose([f.atoms.positions for f in frames], arrays["coords"] * Bohr)


def test_charges_of_atoms_are_none_of_structures(tmp_path):
    revised_md17(tmp_path / "a.npz", charge=np.zeros((5, 3)))
    with pytest.raises(DataError, match=r"charge of shape \(5, 3\) is no charge of 5 structures: .* data\.charge_key"):
        read_frames(tmp_path / "a.npz")


def test_classic_md17(tmp_path):
    rng = np.random.default_rng(0)
    positions, energies, forces = rng.normal(size=(4, 2, 3)), rng.normal(size=(4, 1)), rng.normal(size=(4, 2, 3))
    np.savez(tmp_path / "a.npz", R=positions, z=np.array([6, 8]), E=energies, F=forces)
    frames = read_frames(tmp_path / "a.npz", LabelConfig(units="eV"))
    np.testing.assert_allclose([f.energy for f in frames], energies[:, 0])
    np.testing.assert_allclose(frames[3].forces, forces[3])


def ragged(arrays):
    result = np.empty(len(arrays), dtype=object)
    for k, array in enumerate(arrays):
        result[k] = array
    return result


def test_molecules_of_different_size_in_one_npz(tmp_path):
    sizes = (2, 3)
    coords = [np.full((n, 3), float(n)) + np.arange(n)[:, None] for n in sizes]
    np.savez(
        tmp_path / "a.npz",
        coords=ragged(coords),
        nuclear_charges=ragged([np.array([1] * n) for n in sizes]),
        forces=ragged([np.ones((n, 3)) for n in sizes]),
        energies=np.array([1.0, 2.0]),
    )
    frames = read_frames(tmp_path / "a.npz")
    assert [len(frame.atoms) for frame in frames] == [2, 3]
    np.testing.assert_array_equal(frames[1].atoms.positions, coords[1])


class Malice:
    def __reduce__(self):
        return (io.open, ("executed", "w"))


def test_code_in_an_npz_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    pickle.dump(Malice(), stream, protocol=2)
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("coords.npy", stream.getvalue())
    with pytest.raises(DataError, match="refused"):
        read_frames("a.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_a_damaged_npz_is_one_clear_line(tmp_path, cut):
    revised_md17(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:cut])
    with pytest.raises(DataError, match="not a whole npz file"):
        read_frames(tmp_path / "b.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_flipped_bytes_of_an_npz_are_one_clear_line(tmp_path, compressed):
    """Wherever they are, in headers of the archive, headers of arrays, compressed numbers."""
    rng = np.random.default_rng(0)
    arrays = {"nuclear_charges": np.array([8, 1, 1]), "coords": rng.normal(size=(4, 3, 3)), "energies": np.ones(4)}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", **arrays)
    whole = (tmp_path / "a.npz").read_bytes()
    unseen = 0
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "b.npz").write_bytes(damaged)
        with suppress(DataError):
            read_frames(tmp_path / "b.npz")
            unseen += 1
    assert unseen < len(whole) / 5 / 4  # the archive has checksums, but not of everything


def test_a_header_in_an_npz_that_is_no_header(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("coords.npy", stream.getvalue().replace(b"(3,)", b'"""('))
    with pytest.raises(DataError, match=r"a\.npz: not a whole npz file"):
        read_frames(tmp_path / "a.npz")


def test_structures_without_atoms_are_refused(tmp_path):
    write(tmp_path / "a.xyz", [*emt_atoms(1), Atoms()])
    with pytest.raises(DataError, match=r"a\.xyz: structure 1: has no atoms; remove it"):
        read_frames(tmp_path / "a.xyz")


def test_virials_are_in_the_unit_of_the_energy(tmp_path):
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]], cell=[4, 4, 4], pbc=True)
    atoms.info.update(e=-3.0, v=np.diag([1.0, 2.0, 3.0]))
    write(tmp_path / "a.xyz", atoms)
    (frame,) = read_frames(tmp_path / "a.xyz", LabelConfig(energy_key="e", virial_key="v", units="kcal/mol"))
    np.testing.assert_allclose(frame.stress, -KCAL * np.diag([1.0, 2.0, 3.0]) / 64)


def test_npz_errors_name_what_is_there(tmp_path):
    np.savez(tmp_path / "a.npz", coords=np.zeros((1, 2, 3)), charges=np.array([1, 1]))
    with pytest.raises(DataError, match=r"no array 'nuclear_charges' nor 'energies'; it has coords, charges"):
        read_frames(tmp_path / "a.npz")
    revised_md17(tmp_path / "b.npz", forces=np.zeros((5, 2, 3)))
    with pytest.raises(DataError, match=r"structure 0: 3 atoms but forces of shape \(2, 3\)"):
        read_frames(tmp_path / "b.npz")
    revised_md17(tmp_path / "c.npz", energies=np.zeros(4))
    with pytest.raises(DataError, match="5 structures but 4 energies"):
        read_frames(tmp_path / "c.npz")
    revised_md17(tmp_path / "d.npz", nuclear_charges=np.full((4, 3), 1))
    with pytest.raises(DataError, match=r"d\.npz: 5 structures but 4 nuclear_charges"):
        read_frames(tmp_path / "d.npz")
    revised_md17(tmp_path / "e.npz", forces=np.zeros((3, 3, 3)))
    with pytest.raises(DataError, match=r"e\.npz: 5 structures but 3 forces"):
        read_frames(tmp_path / "e.npz")
    revised_md17(tmp_path / "f.npz", nuclear_charges=np.array([8, 1]))
    with pytest.raises(DataError, match=r"f\.npz: structure 0: arrays of wrong shapes"):
        read_frames(tmp_path / "f.npz")


def test_missing_empty_and_strange_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_frames(tmp_path / "absent.xyz")
    with pytest.raises(DataError, match=r"is a folder: name the files in it$"):
        read_frames(tmp_path)
    (tmp_path / "strange.xyz").write_text("hello\n")
    with pytest.raises(DataError, match="ASE cannot read it"):
        read_frames(tmp_path / "strange.xyz")


def test_labels_that_are_not_finite(tmp_path):
    revised_md17(tmp_path / "a.npz", energies=np.array([0, 1, np.nan, 3, 4]))
    with pytest.raises(DataError, match="structure 2: energy is not finite"):
        read_frames(tmp_path / "a.npz")


def test_a_zero_lattice_vector_is_not_periodic(tmp_path):
    text = '2\nLattice="0 0 0 0 0 0 0 0 0" Properties=species:S:1:pos:R:3 energy=1.0\nH 0 0 0\nH 0 0 0.7\n'
    (tmp_path / "a.xyz").write_text(text)
    (frame,) = read_frames(tmp_path / "a.xyz")
    assert not frame.atoms.pbc.any()
