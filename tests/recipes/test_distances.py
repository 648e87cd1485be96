"""Distance distributions against what is known of ideal gases and rigid molecules."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from ase_equivariant.recipes.distances import distance_distribution, distribution_difference, radial_distribution


def test_ideal_gas_has_no_structure():
    """In a skewed cell, for two elements; N atoms have N − 1 others."""
    rng = np.random.default_rng(0)
    cell = np.array([[20.0, 0, 0], [5.0, 20, 0], [0, -4.0, 20]])
    frames = [Atoms("Ar300Ne200", positions=rng.uniform(size=(500, 3)) @ cell, cell=cell, pbc=True) for _ in range(40)]
    found = radial_distribution(frames, r_max=8.0, bins=8)
    shells = np.diff(np.arange(9.0) ** 3)
    for pair, others, num in (
        ("Ar-Ar", 299 / 300, 300 * 300 / 2),
        ("Ar-Ne", 1, 300 * 200),
        ("Ne-Ne", 0.995, 200 * 200 / 2),
    ):
        noise = 1 / np.sqrt(40 * num * 4 / 3 * np.pi * shells / 8000)  # of as many independent pairs
        assert (np.abs(found.partials[pair] - others)[1:] < 4 * noise[1:]).all(), pair
    assert np.average(found.g, weights=shells) == pytest.approx(499 / 500, abs=0.002)
    assert found.num_frames == 40


def test_coordination_of_a_crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)
    found = radial_distribution([atoms], r_max=5.0)
    reach = found.r_A + (found.r_A[1] - found.r_A[0]) / 2
    around = found.coordination("Na", "Cl")
    assert around[reach < 2.8].max() == 0
    assert around[reach > 2.85][0] == pytest.approx(6)
    assert found.coordination("Cl", "Cl")[reach > 4.05][0] == pytest.approx(12)
    assert around[-1] == pytest.approx(14)  # 6 at a/2, 8 at a √3/2


def test_default_range_is_half_the_smallest_height():
    """That of a skewed cell lies across its longest side; small cells show 6 Å."""
    cell = np.array([[30.0, 0, 0], [20.0, 18, 0], [0, 0, 30.0]])
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [3, 1, 0]], cell=cell, pbc=True)
    assert radial_distribution([atoms]).r_A[-1] + 0.01 == pytest.approx(9.0, abs=0.02)
    assert radial_distribution([bulk("Cu", a=3.6)]).r_A[-1] + 0.01 == pytest.approx(6.0, abs=0.02)


def test_rigid_molecule_has_its_distances():
    water = molecule("H2O")
    found = distance_distribution([water] * 3, r_max=3.0, bins=300)
    assert found.h_per_A.sum() * 0.01 == pytest.approx(1.0)
    peaks = found.r_A[found.h_per_A > 0]
    expected = sorted({round(d, 2) for d in water.get_all_distances()[np.triu_indices(3, 1)]})
    np.testing.assert_allclose(peaks, expected, atol=0.0051)
    assert found.h_per_A[found.h_per_A > 0].max() * 0.01 == pytest.approx(2 / 3)  # both O–H


def test_difference_is_a_metric_from_0_to_2():
    narrow, wide = (distance_distribution([Atoms("H2", [[0, 0, 0], [d, 0, 0]])]) for d in (0.7, 2.0))
    assert distribution_difference(narrow, narrow) == 0
    assert distribution_difference(narrow, wide) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="different bins"):
        distribution_difference(narrow, distance_distribution([molecule("H2")], bins=10))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="periodic in all directions"):
        radial_distribution([molecule("H2O")])
    with pytest.raises(ValueError, match="use radial_distribution"):
        distance_distribution([bulk("Cu") * 2])
    with pytest.raises(ValueError, match="one atom"):
        distance_distribution([Atoms("H")])
    with pytest.raises(ValueError, match="r_max = -1"):
        distance_distribution([molecule("H2O")], r_max=-1)
