"""The dataset doctor on units and signs: each fault planted, and found alone."""

from dataclasses import replace

import numpy as np
import pytest
from ase.units import Bohr, GPa, Hartree, kcal, kJ, mol
from doctor_data import crystals, findings, molecules, scaled, the_finding

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.examine import examine
from ase_equivariant.training.doctor.robust import robust_fit, robust_z
from ase_equivariant.training.doctor.totals import statistical_energy
from ase_equivariant.training.frames import Frame

KCAL, KJ = kcal / mol, kJ / mol
MOLECULES, CRYSTALS = molecules(), crystals()


def notes(frames, **options):
    return " ".join(f.message for f in examine(frames, **options).findings)


def test_nothing_is_found_in_sound_data():
    assert findings(MOLECULES) == []
    assert findings(CRYSTALS) == []
    assert "labels agree with eV and eV/Å" in notes(MOLECULES)
    assert "cannot tell whether labels are in eV" in notes(CRYSTALS)
    assert "sign and unit are ASE's" in notes(CRYSTALS)


@pytest.mark.parametrize(
    ("energy", "forces", "says", "cure"),
    [
        (1 / KCAL, 1 / KCAL, "energies in kcal/mol with forces in kcal/mol/Å", "--units kcal/mol"),
        (1 / KJ, 1 / KJ, "energies in kJ/mol with forces in kJ/mol/Å", "--units kJ/mol"),
        (1 / Hartree, 1 / Hartree, "energies in Hartree with forces in Hartree/Å", "--units Hartree"),
        (1 / Hartree, Bohr / Hartree, "energies in Hartree with forces in Hartree/Bohr", "no one unit"),
        (1 / Hartree, 1, "energies in Hartree with forces in eV/Å", "no one unit"),
        (1 / KCAL, 1, "energies in kcal/mol with forces in eV/Å", "no one unit"),
        (1, 1 / KCAL, "energies in eV with forces in kcal/mol/Å", "no one unit"),
        (1, Bohr / Hartree, "energies in eV with forces in Hartree/Bohr", "no one unit"),
        (1 / 9, 1, "energies in eV per atom with forces in eV/Å", "no one unit"),
    ],
)
def test_wrong_units_of_molecules(energy, forces, says, cure):
    check, severity, message, frames = the_finding(scaled(MOLECULES, energy, forces))
    assert (check, severity, frames) == ("units", "error", ())
    assert f"looks like {says}" in message
    assert cure in message


def twice(frame):
    """The frame's cell doubled."""
    return Frame(frame.atoms.repeat((2, 1, 1)), 2 * frame.energy, np.tile(frame.forces, (2, 1)), frame.stress)


@pytest.mark.parametrize("every", [2, 10], ids=["half", "a tenth"])
def test_energies_per_atom_of_several_sizes(every):
    frames = [twice(frame) if k % every else frame for k, frame in enumerate(crystals(120))]
    assert findings(frames) == []
    wrong = [replace(frame, energy=frame.energy / len(frame.atoms)) for frame in frames]
    said = [f[2] for f in findings(wrong) if f[0] == "units"]
    assert len(said) == 1
    assert "looks like energies in eV per atom with forces in eV/Å" in said[0]


def test_a_unit_that_was_applied_by_mistake():
    _, _, message, _ = the_finding(scaled(MOLECULES, KCAL, KCAL), units="kcal/mol")
    assert "--units eV" in message


def test_energies_alone_tell_their_unit():
    frames = [type(f)(f.atoms, f.energy / Hartree) for f in MOLECULES]
    assert [f[:2] for f in findings(frames)] == [("units", "error"), ("labels", "warning")]
    assert "looks like energies in Hartree →" in findings(frames)[0][2]


def test_positions_in_bohr():
    frames = [type(f)(f.atoms.copy(), f.energy / Hartree, f.forces * Bohr / Hartree) for f in molecules(scatter=0.04)]
    for frame in frames:
        frame.atoms.positions /= Bohr
    found = findings(frames)
    assert {f[:2] for f in found} == {("units", "error")}
    assert "positions look like Bohr" in found[0][2]
    assert any("energies in Hartree with forces in Hartree/Bohr" in f[2] for f in found)


def test_forces_of_crystals_in_other_units():
    check, severity, message, _ = the_finding(scaled(CRYSTALS, 1, 1 / KCAL))
    assert (check, severity) == ("units", "error")
    assert "forces in kcal/mol/Å" in message


@pytest.mark.parametrize("frames", [MOLECULES, CRYSTALS], ids=["molecules", "crystals"])
def test_gradients_instead_of_forces(frames):
    check, severity, message, _ = the_finding(scaled(frames, forces=-1))
    assert (check, severity) == ("forces", "error")
    assert "wrong sign" in message
    assert "gradients" in message


@pytest.mark.parametrize(
    ("frames", "forces", "stress", "says"),
    [
        (MOLECULES, 1, 1, "pull back as they should: the energies have the wrong sign → multiply them, not the forces"),
        (MOLECULES, -1, 1, "push outwards: energies and forces have the wrong sign"),
        (CRYSTALS, 1, 1, "energies, or both forces and stress, have the wrong sign"),
    ],
    ids=["molecules", "both", "crystals"],
)
def test_energies_of_the_wrong_sign(frames, forces, stress, says):
    wrong = scaled(frames, -1, forces, stress)
    check, severity, message, _ = the_finding(wrong)
    assert (check, severity) == ("forces", "error")
    assert says in message
    assert "labels agree" not in notes(wrong)


def test_gradients_do_not_agree_with_energies():
    assert "labels agree" not in notes(scaled(MOLECULES, forces=-1))
    sums = [type(f)(f.atoms, f.energy, -f.forces, -f.stress) for f in CRYSTALS]
    assert "energies, or both forces and stress" in the_finding(sums)[2]


def test_a_slope_that_is_no_unit_s_has_no_sign():
    """Half of the energies and forces in another unit: the slope is one of the zeros, not of the forces."""
    check, severity, message, _ = the_finding(scaled(CRYSTALS, -8740))
    assert (check, severity) == ("units", "error")
    assert "do not belong together" in message


@pytest.mark.parametrize(
    ("factor", "says"),
    [(-1, "sign is wrong"), (1 / GPa, "looks like GPa →"), (-10 / GPa, "looks like kbar, with the opposite sign"),
     (-53.0, "a virial, with the opposite sign → read it with --virial-key")],
)  # fmt: skip
def test_wrong_stress(factor, says):
    check, severity, message, _ = the_finding(scaled(CRYSTALS, stress=factor))
    assert (check, severity) == ("stress", "error")
    assert says in message


def test_the_factor_of_a_stress_cures_it():
    _, _, message, _ = the_finding(scaled(CRYSTALS, stress=-10 / GPa))
    factor = float(message.split("multiply by ")[1].split()[0])
    assert findings(scaled(CRYSTALS, stress=-10 / GPa * factor)) == []


VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ([0, 1, 2, 5, 3, 4], "go with the shears yz, xz, xy"),  # VASP's xx yy zz xy yz zx
        ([2, 1, 0, 3, 4, 5], "stresses zz, xx go with the strains xx, zz"),
        ([0, 5, 4, 1, 3, 2], "go with the strains yy, zz, yz, xz, xy"),  # the upper triangle row by row
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_stress_in_another_order(order, says, sign):
    """Components of the file, read as xx yy zz yz xz xy."""
    frames = scaled(CRYSTALS, stress=sign)
    for frame in frames:
        components = [frame.stress[place] for place in VOIGT]
        for (a, b), k in zip(VOIGT, order, strict=True):
            frame.stress[a, b] = frame.stress[b, a] = components[k]
    found = [f for f in findings(frames) if f[0] == "stress"]
    assert [f[1] for f in found] == ["error"]
    assert says in found[0][2]
    assert "ASE's is xx yy zz yz xz xy" in found[0][2]


def test_stress_that_is_not_symmetric():
    frames = scaled(CRYSTALS)
    frames[7].stress[0, 1] += 0.01
    check, severity, message, numbers = the_finding(frames)
    assert (check, severity, numbers) == ("stress", "error", (7,))
    assert "not symmetric" in message


def test_sign_of_stress_from_volumes_alone():
    """Ideal crystals of volumes too different for a straight path."""
    frames = []
    for scale in np.linspace(0.85, 1.25, 12):
        frame = CRYSTALS[0]
        atoms = frame.atoms.copy()
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        frames.append(type(frame)(atoms, None, None, np.eye(3) * 0.5 * (scale - 1)))
    assert "sign is wrong" not in notes(frames)
    assert "GPa, from stress at different volumes: plausible" in notes(frames)
    assert "GPa, from stress at different volumes: the sign is wrong" in notes(
        [type(f)(f.atoms, None, None, -f.stress) for f in frames]
    )


def test_molecules_with_a_stress_are_no_obstacle():
    """Some programs write one, of zeros, without a cell."""
    labelled = [type(f)(f.atoms, f.energy, f.forces, np.zeros((3, 3))) for f in MOLECULES]
    assert [f[:2] for f in findings(labelled)] == [("structures", "warning")]  # a stress, but no pbc
    assert "cannot tell sign and unit" in notes(labelled)
    told = [f[2] for f in findings([*scaled(CRYSTALS, stress=1 / GPa), *labelled[:5]]) if f[0] == "stress"]
    assert len(told) == 1
    assert "looks like GPa →" in told[0]


@pytest.mark.parametrize("scatter", [0.02, 0.1])  # pairs are some 0.04 and 0.2 Å apart
def test_shuffled_energies(scatter):
    rng = np.random.default_rng(1)
    frames = molecules(120, scatter=scatter)
    assert not findings(frames)
    energies = rng.permutation([frame.energy for frame in frames])
    found = findings([type(f)(f.atoms, float(e), f.forces) for f, e in zip(frames, energies, strict=True)])
    assert [f[:2] for f in found] == [("units", "warning")]
    assert "energies do not follow the forces" in found[0][2]


def test_whether_energies_belong_to_forces_is_not_claimed_without_near_frames():
    assert "cannot tell" not in notes(MOLECULES)
    rng = np.random.default_rng(1)
    far = molecules(scatter=0.25)
    energies = rng.permutation([frame.energy for frame in far])
    says = notes([replace(frame, energy=float(e)) for frame, e in zip(far, energies, strict=True)])
    assert "whether energies belong to these forces, these frames cannot tell" in says


def test_free_atoms_energies_are_near_hartree_fock():
    hartree_fock = {1: -0.5, 6: -37.6886, 8: -74.8094, 14: -288.8544, 17: -459.4821, 29: -1638.9637}
    for number, energy in hartree_fock.items():
        allowed = 0.09 if number == 1 else 0.01
        assert abs(statistical_energy(np.array([number]))[0] / (energy * Hartree) - 1) < allowed


def test_the_fit_survives_wrong_points():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(100, 2))
    values = columns @ [2.0, -3.0] + 0.01 * rng.normal(size=100)
    values[:10] += 50
    coefficients, errors = robust_fit(columns, values)
    np.testing.assert_allclose(coefficients, [2.0, -3.0], atol=0.02)
    assert (errors < 0.05).all()
    assert np.argmax(np.abs(robust_z(values))) < 10


def test_pairs_are_exact_for_a_quadratic_energy():
    """Work by the trapezoidal rule has no error of second order."""
    data = Dataset(molecules(30, scatter=0.005))
    force, _ = data.slopes
    assert force.known
    assert abs(force.value - 1) < 0.02


def test_each_part_is_judged_by_the_unit_it_was_read_with():
    """A training part that was read as kcal/mol, and is; beside it one that was read as eV."""
    sound, options = molecules(seed=1), {"units": "kcal/mol", "test_units": "eV"}
    assert findings(MOLECULES, sound, **options) == []
    wrong = scaled(sound, energy=1 / KCAL, forces=1 / KCAL)
    check, severity, message, _ = the_finding(MOLECULES, wrong, **options)
    assert (check, severity) == ("units", "error")
    assert "like energies in kcal/mol" in message
    assert "--units kcal/mol" in message
    each = ["kcal/mol"] * len(MOLECULES) + ["eV"] * len(sound)
    assert findings([*MOLECULES, *sound], units=each) == []
