"""Several recipes at once, on systems where each is cheap."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from ase_equivariant import EquivariantCalculator
from ase_equivariant.io.results import plain, write_json
from ase_equivariant.plotting.checks import draw_check
from ase_equivariant.plotting.figure import save_figure
from ase_equivariant.recipes.checks import check_crystal, check_liquid, check_molecule, sample
from ase_equivariant.recipes.ensembles import MDSettings
from ase_equivariant.recipes.limits import SimulationError
from ase_equivariant.recipes.relax import relax


def with_emt(atoms):
    atoms.calc = EMT()
    return atoms


def drawn(found, path, **options):
    save_figure(draw_check(found, **options), path, dpi=40)
    return path.read_bytes().startswith(b"\x89PNG")


def test_sample_keeps_what_comes_after_the_start():
    settings = MDSettings(temperature_K=300.0, timestep_fs=1.0)
    times = []
    frames = sample(with_emt(molecule("N2")), 0.05, settings, discard_ps=0.01, progress=times.append)
    assert [frame.info["time_fs"] for frame in frames] == pytest.approx(np.arange(12.0, 61.0, 2.0))
    assert all(frame.has("momenta") and frame.calc is None for frame in frames)
    again = sample(with_emt(molecule("N2")), 0.05, settings, discard_ps=0.01)
    np.testing.assert_array_equal(frames[-1].positions, again[-1].positions)


def test_an_explosion_is_no_sample():
    """A step of 80 fs throws nitrogen apart; its frames would have gone into distances and spectra."""
    settings = MDSettings(temperature_K=300.0, timestep_fs=80.0)
    with pytest.raises(SimulationError, match=r"^after 0\.\d+ ps: the (force|temperature) .*above the limit"):
        sample(with_emt(molecule("N2")), 50.0, settings)


def test_atoms_that_the_calculator_does_not_take_did_not_explode():
    atoms = molecule("CH3SH")
    atoms.calc = EquivariantCalculator("ethanol")
    with pytest.raises(ValueError, match=r"^this model does not know S"):
        sample(atoms, 0.05, MDSettings())


def test_molecule(tmp_path):
    atoms = with_emt(molecule("N2"))
    relax(atoms, fmax=1e-3)
    settings = MDSettings(temperature_K=50.0, timestep_fs=1.0, friction_per_ps=20.0)
    moving = with_emt(atoms.copy())
    frames = sample(moving, 4.0, settings, discard_ps=0.2)
    found = check_molecule(atoms, frames, frames, EMT(), stability_ps=0.02, settings=settings)
    assert found.difference == 0.0  # its own frames are the reference
    assert 0 < found.reference_noise < 1
    assert found.torsion is None
    assert len(found.stability.survived_ps) == 10
    assert not found.stability.failed.any()
    assert drawn(found, tmp_path / "n2.png")
    write_json(tmp_path / "n2.json", found)
    assert '"mean_time_to_failure_ps": null' in (tmp_path / "n2.json").read_text()  # infinite is not JSON


def test_crystal(tmp_path):
    pytest.importorskip("phonopy")
    found = check_crystal(with_emt(bulk("Cu", a=3.65)), (2, 2, 2))
    assert found.lengths_A[0] * np.sqrt(2) == pytest.approx(3.59, abs=0.01)
    assert found.elastic.bulk_hill_GPa == pytest.approx(134, abs=2)
    assert found.phonons.supercell == (2, 2, 2)
    assert drawn(found, tmp_path / "cu.png", phonons_THz={"X": [5.5, 5.5, 8.2]})
    assert plain(found)["elastic"]["C_GPa"][0][3] == pytest.approx(0.0, abs=1e-6)


def test_liquid(tmp_path):
    atoms = with_emt(bulk("Al", cubic=True))
    settings = MDSettings(temperature_K=600.0, timestep_fs=4.0, friction_per_ps=20.0)
    frames = sample(atoms, 4.0, settings, discard_ps=0.2)
    found = check_liquid(frames[::50], frames, "Al")
    near = found.radial.partials["Al-Al"][found.radial.r_A < 3.5]  # at 4.05 Å there are the atoms' own images
    assert near.argmax() * 0.02 == pytest.approx(2.86, abs=0.15)
    assert found.temperature_K == pytest.approx(600, abs=150)
    assert drawn(found, tmp_path / "al.png")
