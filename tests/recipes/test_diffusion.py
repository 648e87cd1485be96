"""Diffusion of walkers whose coefficient is known."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms

from ase_equivariant.recipes.diffusion import diffusion, finite_size_correction_cm2_per_s, mean_squared_displacement

STEP_FS = 10.0


def frames_of(positions, symbols, cell=12.0):
    made = []
    for k, r in enumerate(positions):
        frame = Atoms(symbols, positions=r, cell=[cell] * 3, pbc=True)
        frame.wrap()
        frame.info["time_fs"] = STEP_FS * k
        made.append(frame)
    return made


def test_fft_is_the_direct_sum():
    positions = np.cumsum(np.random.default_rng(0).normal(size=(50, 3, 3)), axis=0) + 1000.0
    direct = [np.square(positions[lag:] - positions[: 50 - lag]).sum(axis=-1).mean() for lag in range(50)]
    np.testing.assert_allclose(mean_squared_displacement(positions), direct, rtol=1e-9, atol=1e-9)


def test_brownian_walkers_across_boundaries():
    rng = np.random.default_rng(1)
    sigma = {"Li": 0.3, "S": 0.05}  # Å per step and direction
    scale = np.array([sigma["Li"]] * 40 + [sigma["S"]] * 40)[None, :, None]
    positions = np.cumsum(rng.normal(size=(2000, 80, 3)) * scale, axis=0)
    frames = frames_of(positions, "Li40S40")
    for element, width in sigma.items():
        found = diffusion(frames, element, remove_drift=False)
        expected = width**2 / (2 * STEP_FS * 1e-3) * 1e-4  # σ²/2τ, in cm²/s
        assert found.diffusion_cm2_per_s == pytest.approx(expected, abs=4 * found.error_cm2_per_s)
        assert found.error_cm2_per_s < 0.1 * expected
        assert found.exponent == pytest.approx(1.0, abs=0.1)
        assert found.elements == element


def test_drift_is_no_diffusion():
    """All atoms fly together: ballistic as they are, at rest without their centre of mass."""
    flight = 0.02 * np.arange(400)[:, None, None] * np.ones((1, 6, 3))
    positions = flight + np.random.default_rng(2).uniform(0, 12, size=(1, 6, 3))
    frames = frames_of(positions, "Li3S3")
    ballistic = diffusion(frames, remove_drift=False)
    assert ballistic.exponent == pytest.approx(2.0, abs=1e-6)
    np.testing.assert_allclose(ballistic.msd_A2, 3 * (0.02 * np.arange(400)) ** 2, atol=1e-8)
    assert abs(diffusion(frames).diffusion_cm2_per_s) < 1e-12


@pytest.mark.parametrize(("pbc", "dimensions"), [((1, 1, 0), 2), ((0, 0, 1), 1)])
def test_walkers_on_slabs_and_along_wires(pbc, dimensions):
    """What moves along open directions, however far, does not count, and the others share the slope."""
    rng = np.random.default_rng(3)
    sigma = 0.1
    walk = np.cumsum(rng.normal(scale=sigma, size=(1500, 60, 3)), axis=0)
    walk[..., ~np.array(pbc, dtype=bool)] *= 0.3
    frames = frames_of(walk, "Li60")
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    for frame, r in zip(frames, walk, strict=True):
        frame.set_positions(r @ turn)
        frame.set_cell(frame.cell.array @ turn)
        frame.pbc = pbc
    found = diffusion(frames, remove_drift=False)
    assert found.dimensions == dimensions
    expected = sigma**2 / (2 * STEP_FS * 1e-3) * 1e-4
    assert found.diffusion_cm2_per_s == pytest.approx(expected, rel=0.1)
    assert diffusion(frames_of(walk, "Li60")).dimensions == 3


def test_fixed_atoms_keep_the_centre_of_mass():
    """A heavy atom in a light host that is held: its own motion is most of that of the centre of mass."""
    rng = np.random.default_rng(4)
    sigma = 0.1
    walk = np.cumsum(rng.normal(scale=sigma, size=(2000, 5, 3)), axis=0)
    positions = np.concatenate([walk, np.broadcast_to(rng.uniform(0, 12, size=(1, 3)), (2000, 5, 3))], axis=1)
    free = frames_of(positions, "Au5C5")
    held = [frame.copy() for frame in free]
    for frame in held:
        frame.set_constraint(FixAtoms(range(5, 10)))
    as_asked = diffusion(free, "Au", remove_drift=False).diffusion_cm2_per_s
    assert diffusion(held, "Au").diffusion_cm2_per_s == as_asked
    assert diffusion(free, "Au").diffusion_cm2_per_s < 0.95 * as_asked
    assert diffusion([frame[:1] for frame in free]).diffusion_cm2_per_s > 0  # a single one is its centre of mass


def test_finite_size_correction():
    """Water: 298 K, 0.89 mPa s, 64 molecules in 12.42 Å: 2.837297 · 1.380649e-23 · 298 / (6π · 8.9e-4 · 12.42e-10)."""
    assert finite_size_correction_cm2_per_s(298.0, 0.89, 12.42) == pytest.approx(5.602e-6, rel=1e-3)
    with pytest.raises(ValueError, match="above 0"):
        finite_size_correction_cm2_per_s(298.0, 0.0, 12.42)


def test_what_makes_no_sense_is_refused():
    frames = frames_of(np.zeros((60, 2, 3)), "LiS")
    with pytest.raises(ValueError, match="no Cl in LiS"):
        diffusion(frames, "Cl")
    with pytest.raises(ValueError, match="blocks of 10 frames"):
        diffusion(frames[:20])
    with pytest.raises(ValueError, match="in periodic cells"):
        diffusion([Atoms("He")] * 60)
    with pytest.raises(ValueError, match="fit_ps"):
        diffusion(frames, fit_ps=(0.1, 5.0))


def test_atoms_that_are_held_do_not_slow_the_others():
    """Half of the lithium is fixed: its share of zero made the coefficient half as large."""
    steps = np.random.default_rng(3).normal(size=(1000, 60, 3)) * 0.1
    steps[:, 30:] = 0
    frames = frames_of(np.cumsum(steps, axis=0), "Li60")
    alone = diffusion([frame[:30] for frame in frames], remove_drift=False)
    for frame in frames:
        frame.set_constraint(FixAtoms(range(30, 60)))
    found = diffusion(frames)
    assert found.diffusion_cm2_per_s == pytest.approx(alone.diffusion_cm2_per_s, rel=1e-9)
    assert diffusion(frames, "Li").diffusion_cm2_per_s == found.diffusion_cm2_per_s
    frames[0].set_constraint(FixAtoms(range(60)))
    with pytest.raises(ValueError, match="constraints hold all of these atoms"):
        diffusion(frames)
