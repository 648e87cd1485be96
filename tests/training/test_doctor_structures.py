"""The dataset doctor on structures, elements and what train and test share."""

from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.build import bulk
from doctor_data import crystals, findings, molecules, moved, the_finding
from scipy.spatial.transform import Rotation

from ase_equivariant.training.doctor.examine import examine
from ase_equivariant.training.doctor.geometry import geometry_of
from ase_equivariant.training.doctor.likeness import nearest, same_pairs
from ase_equivariant.training.frames import Frame

MOLECULES, CRYSTALS = molecules(), crystals()


def notes(frames, test=None):
    return [f.message for f in examine(frames, test).findings if f.severity == "note"]


def with_atom(frame, symbol, position):
    atoms = frame.atoms + Atoms(symbol, positions=[position])
    return Frame(atoms, None, np.vstack([frame.forces, np.zeros(3)]) + 1e-3)


def test_atoms_on_top_of_each_other():
    found = findings([*MOLECULES, with_atom(MOLECULES[0], "H", MOLECULES[0].atoms.positions[0] + [0.1, 0, 0])])
    assert ("structures", "error", (60,)) in [(f[0], f[1], f[3]) for f in found]


def test_close_atoms():
    found = findings([*MOLECULES, with_atom(MOLECULES[0], "H", MOLECULES[0].atoms.positions[0] + [0.35, 0, 0])])
    assert ("structures", "warning", (60,)) in [(f[0], f[1], f[3]) for f in found]


def test_lone_atom():
    found = findings([*MOLECULES, with_atom(MOLECULES[0], "H", [0, 0, 12.0])])
    assert [f[3] for f in found if "without a neighbour" in f[2]] == [(60,)]


def test_reference_atoms_are_noted():
    assert any(note.startswith("single atoms: C, H;") for note in notes([*MOLECULES, Frame(Atoms("H"), -13.6), Frame(Atoms("C"), -1030.0)]))  # fmt: skip # noqa: E501


def test_cell_without_periodicity():
    frames = [replace(frame, atoms=frame.atoms.copy()) for frame in CRYSTALS]
    frames[9].atoms.pbc = False
    assert [f[3] for f in findings(frames) if "but no pbc" in f[2]] == [(9,)]


def test_density():
    atoms = bulk("Cu", "fcc", a=2.0)
    assert any("less than 3 Å³" in f[2] for f in findings([Frame(atoms, 0.0)]))


def test_elements_only_in_the_test_part():
    test = [moved(frame, numbers=np.where(frame.atoms.numbers == 8, 16, frame.atoms.numbers)) for frame in molecules(5, 9)]  # fmt: skip # noqa: E501
    found = [f for f in findings(MOLECULES, test) if f[0] == "elements"]
    assert [(f[1], f[3]) for f in found] == [("error", (0, 1, 2, 3, 4))]
    assert found[0][2].startswith("S: in 5 test frames")


def test_overlap():
    test = molecules(20, seed=5)
    test[3] = moved(MOLECULES[8])
    check, severity, message, numbers = the_finding(MOLECULES, test)
    assert (check, severity, numbers) == ("overlap", "error", (3,))
    assert "1 test frame is in the training data too" in message


def test_neighbours_of_one_trajectory():
    rng = np.random.default_rng(3)
    test = [moved(f, f.atoms.positions + 1e-3 * rng.normal(size=(9, 3))) for f in MOLECULES[:20]]
    check, severity, message, numbers = the_finding(MOLECULES, test)
    assert (check, severity, numbers) == ("overlap", "warning", tuple(range(20)))
    assert message.startswith("100 % of the test frames are nearly training frames")


def test_a_single_near_copy_in_the_test_part():
    rng = np.random.default_rng(3)
    test = molecules(40, seed=5)
    test[7] = moved(MOLECULES[8], MOLECULES[8].atoms.positions + 2e-3 * rng.normal(size=(9, 3)))
    check, severity, message, numbers = the_finding(MOLECULES, test)
    assert (check, severity, numbers) == ("overlap", "warning", (7,))
    assert message.startswith("1 test frame is within 0.005 Å of training frames")


def test_independent_parts_are_only_described():
    assert findings(MOLECULES, molecules(20, seed=5)) == []
    assert any(note.startswith("nearest training frame: 5 %, 50 % and 95 %") for note in notes(MOLECULES, molecules(20, 5)))  # fmt: skip # noqa: E501


def test_an_ideal_crystal_in_both_parts_is_no_error():
    ideal = bulk("Cu", "fcc", a=3.75, cubic=True)
    frame = Frame(ideal, -0.1, np.zeros((4, 3)))
    found = [f for f in findings([*CRYSTALS, frame], [*crystals(10, seed=4), frame]) if f[0] == "overlap"]
    assert [f[1] for f in found] == ["warning"]
    assert "ideal crystal" in found[0][2]


def test_fingerprints_do_not_change_with_orientation_order_and_origin():
    atoms = MOLECULES[0].atoms
    other = atoms[np.random.default_rng(0).permutation(9)]
    other.positions = other.positions @ Rotation.from_rotvec([1, 2, 3]).as_matrix() - 7
    a, b = geometry_of(atoms).fingerprint, geometry_of(other).fingerprint
    np.testing.assert_allclose(a, b, atol=1e-12)
    cell = CRYSTALS[0].atoms.copy()
    cell.positions += [10.0, -3.0, 1.0]
    cell.wrap()
    np.testing.assert_allclose(geometry_of(cell).fingerprint, geometry_of(CRYSTALS[0].atoms).fingerprint, atol=1e-10)


def test_fingerprints_change_no_more_than_atoms_move():
    atoms = MOLECULES[0].atoms.copy()
    before = geometry_of(atoms).fingerprint
    shift = 0.01 * np.random.default_rng(0).normal(size=(9, 3))
    atoms.positions += shift
    change = np.abs(geometry_of(atoms).fingerprint - before).max()
    assert 0 < change <= 2 * np.linalg.norm(shift, axis=1).max()


def test_nearest_and_same_in_several_blocks():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1100, 5))
    a[1050] = a[3] + 1e-6
    indices, distances = nearest(a)
    assert (indices[3], indices[1050]) == (1050, 3)
    assert distances[3] < 1e-5
    brute = np.sqrt(((a[:, None] - a) ** 2).mean(-1))
    np.fill_diagonal(brute, np.inf)
    np.testing.assert_array_equal(indices, brute.argmin(1))
    assert same_pairs(a) == [(3, 1050)]
    assert same_pairs(a[:5], a) == [(0, 0), (1, 1), (2, 2), (3, 3), (3, 1050), (4, 4)]
