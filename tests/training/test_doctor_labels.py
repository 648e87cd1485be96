"""The dataset doctor on labels: missing, repeated, zero, far off; each fault planted, and found alone."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import Hartree, kcal, mol
from doctor_data import crystals, findings, molecules, moved, scaled, the_finding
from scipy.spatial.transform import Rotation

from ase_equivariant.training.doctor.examine import examine
from ase_equivariant.training.frames import Frame

MOLECULES, CRYSTALS = molecules(), crystals()
ROTATION = Rotation.from_rotvec([0.5, -1.0, 0.8]).as_matrix()


def changed(frames, change, places):
    """Copies of the frames, some of them changed."""
    return [change(frame) if k in places else frame for k, frame in enumerate(frames)]


@pytest.mark.parametrize(
    ("label", "places"), [("energy", (3,)), ("forces", (0, 59)), ("stress", (5, 6)), ("positions", (8,))]
)
def test_not_finite(label, places):
    def spoil(frame):
        if label == "positions":
            return moved(frame, np.full((4, 3), np.nan))
        return replace(frame, **{label: getattr(frame, label) * np.nan})

    check, severity, message, numbers = the_finding(changed(CRYSTALS, spoil, places))
    assert (check, severity, numbers) == ("labels", "error", places)
    assert message.startswith(f"{label} not finite")


@pytest.mark.parametrize("label", ["energy", "forces", "stress"])
def test_missing(label):
    frames = changed(CRYSTALS, lambda frame: replace(frame, **{label: None}), (4, 5, 9))
    check, severity, message, numbers = the_finding(frames)
    assert (check, severity, numbers) == ("labels", "warning", (4, 5, 9))
    assert message.startswith(f"{label} is missing in 3 of 60 frames")


def test_numbers_are_those_of_the_file_though_a_frame_before_is_broken():
    frames = changed(CRYSTALS, lambda frame: moved(frame, np.full((4, 3), np.nan)), (2,))
    frames = changed(frames, lambda frame: replace(frame, forces=None), (40,))
    assert {f[3] for f in findings(frames)} == {(2,), (40,)}


def test_zeros_instead_of_forces():
    frames = changed(MOLECULES, lambda frame: replace(frame, forces=np.zeros((9, 3))), (2, 3))
    check, severity, message, numbers = the_finding(frames)
    assert (check, severity, numbers) == ("forces", "error", (2, 3))
    assert "exactly zero" in message


def test_zero_forces_of_an_ideal_crystal_are_right():
    ideal = CRYSTALS[0].atoms.copy()
    ideal.set_scaled_positions([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    assert not [f for f in findings([*CRYSTALS, Frame(ideal, CRYSTALS[0].energy, np.zeros((4, 3)), CRYSTALS[0].stress)])
                if f[0] == "forces"]  # fmt: skip


def test_fixed_atoms():
    def fix(frame):
        forces = frame.forces.copy()
        forces[0] = 0
        return replace(frame, forces=forces)

    found = findings(changed(MOLECULES, fix, range(60)))
    assert any("on some atoms are exactly zero in 60 frames" in f[2] for f in found)
    assert any("do not sum to zero" in f[2] for f in found)


def test_net_force():
    frames = changed(MOLECULES, lambda frame: replace(frame, forces=frame.forces + np.array([1.0, 0, 0])), range(60))
    check, severity, message, _ = the_finding(frames)
    assert (check, severity) == ("forces", "error")
    assert "do not sum to zero" in message


def test_forces_in_another_orientation():
    frames = changed(MOLECULES, lambda frame: replace(frame, forces=frame.forces @ ROTATION), range(60))
    found = [f for f in findings(frames) if "turn the molecule" in f[2]]
    assert [f[:2] for f in found] == [("forces", "error")]
    assert "another orientation" in found[0][2]


def test_forces_of_another_frame():
    frames = changed(CRYSTALS, lambda frame: replace(frame, forces=CRYSTALS[0].forces), (1, 2))
    check, severity, message, numbers = the_finding(frames)
    assert (check, severity, numbers) == ("forces", "error", (0, 1, 2))
    assert "same forces" in message


def test_one_energy_for_all():
    frames = [replace(frame, energy=-5.0) for frame in CRYSTALS]
    found = [f for f in findings(frames) if f[0] == "energies"]
    assert [f[1] for f in found] == ["error"]
    assert "60 frames with different positions have the same energy" in found[0][2]


def test_rounded_energies():
    frames = [replace(frame, energy=round(frame.energy * 100) / 100) for frame in CRYSTALS]
    found = [f for f in findings(frames) if f[0] == "energies"]
    assert [f[1] for f in found] == ["warning"]
    assert "steps of about 0.01 eV" in found[0][2]


@pytest.mark.parametrize("frames", [MOLECULES, CRYSTALS], ids=["molecules", "crystals"])
def test_two_zeros_of_energy(frames):
    size = len(frames[0].atoms)
    shifted = changed(frames, lambda frame: replace(frame, energy=frame.energy + 2.0 * size), range(35, 60))
    found = [f for f in findings(shifted) if f[0] == "energies"]
    assert [(f[1], f[3]) for f in found] == [("warning", tuple(range(35, 60)))]
    assert "energies of 25 frames lie +2 eV/atom beside those of 35" in found[0][2]


def test_two_units_in_one_file():
    mixed = [*MOLECULES[:40], *scaled(MOLECULES[40:], 1 / (kcal / mol), 1 / (kcal / mol))]
    found = [f for f in findings(mixed) if f[0] == "energies"]
    assert [(f[1], f[3]) for f in found] == [("error", tuple(range(40, 60)))]
    assert "are 23.06 times theirs: mixed units, as kcal/mol among eV" in found[0][2]


def test_isomers_are_no_two_zeros():
    dimethyl_ether = molecules(30, name="CH3OCH3")
    isomers = [replace(frame, energy=frame.energy + 40.0) for frame in dimethyl_ether]
    assert not [f for f in findings([*MOLECULES, *isomers]) if f[0] == "energies"]


@pytest.mark.parametrize("turned", [False, True])
def test_copies(turned):
    def copy(frame):
        if not turned:
            return moved(frame)
        order = np.random.default_rng(0).permutation(9)
        atoms = frame.atoms[order]
        atoms.positions = atoms.positions @ ROTATION + 3.0
        return Frame(atoms, frame.energy, frame.forces[order] @ ROTATION)

    check, severity, message, numbers = the_finding([*MOLECULES, copy(MOLECULES[4]), copy(MOLECULES[7])])
    assert (check, severity, numbers) == ("duplicates", "warning", (60, 61))
    assert ("rotated, shifted or permuted" in message) == turned


def rounded(frame, decimals):
    return moved(frame, np.round(frame.atoms.positions, decimals))


def turned_with_noise(frame, size=1e-3):
    noise = size * np.random.default_rng(2).normal(size=frame.atoms.positions.shape)
    return replace(moved(frame, frame.atoms.positions @ ROTATION + noise), forces=frame.forces @ ROTATION)


@pytest.mark.parametrize("frames", [MOLECULES, CRYSTALS], ids=["molecules", "crystals"])
def test_copies_with_four_decimals(frames):
    check, severity, message, numbers = the_finding([*frames, *(rounded(frame, 4) for frame in frames[:5])])
    assert (check, severity, numbers) == ("duplicates", "warning", (60, 61, 62, 63, 64))
    assert message.startswith("5 frames are copies of an earlier one →")


def test_copies_with_noise():
    near = [turned_with_noise(MOLECULES[4]), rounded(MOLECULES[7], 3)]
    check, severity, message, numbers = the_finding([*MOLECULES, *near])
    assert (check, severity, numbers) == ("duplicates", "warning", (60, 61))
    assert message.startswith("2 frames are within 0.005 Å of an earlier one and have its energy")


def test_steps_of_a_trajectory_are_noted():
    """They have energies of their own."""
    step = turned_with_noise(MOLECULES[29])
    frames = [*MOLECULES, replace(step, energy=step.energy + 0.01)]
    assert findings(frames) == []
    assert duplicates(frames) == [(60,)]


def test_small_molecules_are_near_by_chance():
    assert duplicates(molecules(60, name="H2O")) == []


def test_copies_with_other_labels():
    found = findings([*CRYSTALS, replace(CRYSTALS[4], energy=CRYSTALS[4].energy + 0.02)])
    assert ("duplicates", "error", (4, 60)) in [(f[0], f[1], f[3]) for f in found]


def test_a_stretched_dimer_is_no_copy_of_a_longer_one():
    pairs = [Frame(Atoms("Ar2", positions=[[0, 0, 0], [0, 0, d]]), 0.0) for d in (6.5, 7.0, 7.5)]
    assert not [f for f in findings(pairs) if f[0] == "duplicates"]


def polytypes(strain):
    """Close packings of two atoms, whose twelve nearest neighbours are as near."""
    fcc = bulk("Cu", "fcc", a=3.6 * strain, orthorhombic=True)
    hcp = bulk("Cu", "hcp", a=3.6 * strain / np.sqrt(2))
    return [Frame(fcc, -7.4 + strain, np.zeros((2, 3))), Frame(hcp, -7.3 + strain, np.zeros((2, 3)))]


def divacancies():
    """Two vacancies at the first to fifth neighbours' distance, by which no atom's eight nearest neighbours change."""
    frames = []
    whole = bulk("Cu", a=3.6, cubic=True) * 3
    order = np.argsort(whole.get_distances(0, range(len(whole)), mic=True))
    for k, other in enumerate(order[[1, 13, 19, 43, 55]]):
        atoms = whole.copy()
        del atoms[[0, other]]
        frames.append(Frame(atoms, -300.0 + k, np.zeros((len(atoms), 3))))
    return frames


def duplicates(frames):
    """Of ideal crystals too, which are only noted."""
    return [f.frames for f in examine(frames).findings if f.check == "duplicates"]


@pytest.mark.parametrize("frames", [[f for s in (0.98, 1.0, 1.02) for f in polytypes(s)], divacancies()])
def test_other_crystals_are_no_copies(frames):
    assert duplicates(frames) == []
    assert not [f for f in findings(frames[:1], frames[1:]) if f[0] == "overlap"]
    order = np.random.default_rng(0).permutation(len(frames[1].atoms))
    turned = frames[1].atoms[order]
    turned.set_cell(turned.cell.array @ ROTATION, scale_atoms=True)
    turned.positions += [0.3, 5.0, -2.0]
    turned.wrap()
    again = replace(frames[1], atoms=turned)
    assert duplicates([*frames, again]) == [(len(frames),)]
    assert [f[3] for f in findings(frames, [again]) if f[0] == "overlap"] == [(0,)]


def test_a_distance_at_the_edge_is_in_no_list_of_a_copy():
    """Six Å, where neighbours end, to rounding."""
    frames = [
        Frame(Atoms("Ar", cell=[d, 5.0, 5.5], pbc=True) * (1, 1, 2), -0.1, np.zeros((2, 3)))
        for d in (6 - 1e-7, 6 + 1e-7)
    ]
    assert duplicates(frames) == [(1,)]


def test_energy_that_stands_out():
    frames = changed(MOLECULES, lambda frame: replace(frame, energy=frame.energy + 40), (11,))
    found = findings(frames)
    assert {(f[0], f[1], f[3]) for f in found} == {("outliers", "warning", (11,))}
    assert "stand out" in found[0][2]


def test_energy_that_does_not_follow_the_forces():
    frames = molecules(200, scatter=0.03)
    frames = changed(frames, lambda frame: replace(frame, energy=frame.energy + 5.0), (50,))
    found = [f for f in findings(frames) if "do not follow the forces" in f[2]]
    assert [(f[0], f[1], f[3]) for f in found] == [("outliers", "warning", (50,))]


def test_forces_that_stand_out():
    frames = changed(CRYSTALS, lambda frame: replace(frame, forces=frame.forces * 1000), (30,))
    found = [f for f in findings(frames) if "stand out" in f[2]]
    assert [(f[0], f[1], f[3]) for f in found] == [("outliers", "warning", (30,))]


def test_energies_of_compositions_are_compared_fairly():
    """Molecules of other size, and lone atoms, have other energies and are no outliers."""
    frames = [*MOLECULES, *molecules(30, name="CH3OH"), *molecules(30, name="CH4"), *molecules(30, name="H2O")]
    assert findings([*frames, Frame(Atoms("H"), -0.5 * Hartree)]) == []


def test_everything_at_once_is_sorted_by_severity():
    frames = changed(scaled(MOLECULES, forces=-1), lambda frame: replace(frame, energy=None), (1,))
    severities = [f.severity for f in examine(frames).findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert {"error", "warning"} <= set(severities)
