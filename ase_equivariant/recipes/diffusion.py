"""Self-diffusion from mean squared displacements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ase_equivariant.recipes.frames import check_frames, drifts, fixed_atoms, interval_fs, unwrapped_positions
from ase_equivariant.recipes.vibrations import autocorrelation

_CM2_PER_S = 1e-4  # of 1 Å²/ps
_BOLTZMANN_J_PER_K = 1.380649e-23
_EWALD_CONSTANT = 2.837297  # of a cubic cell


@dataclass(frozen=True)
class Diffusion:
    """What a mean squared displacement came to.

    Attributes
    ----------
    elements : str
        Whose, such as "Li", or "all".
    time_ps, msd_A2 : ndarray
        (lags,) mean squared displacement in Å², along periodic directions, by lag in ps.
    diffusion_cm2_per_s : float
        The slope between ``fit_ps`` over 2 ``dimensions``: a sixth of it in a bulk.
    error_cm2_per_s : float
        Standard error, from the spread of ``blocks`` parts of the trajectory.
    exponent : float
        Of the lag between ``fit_ps``, msd ∝ lag^exponent: about 1 for diffusion, 2 for free flight, 0 for vibration.
    fit_ps : tuple of 2 float
        Lags that were fitted.
    blocks : int
        Parts.
    dimensions : int
        Number of periodic directions: 3 in a bulk, 2 on a slab, 1 along a wire.
    """

    elements: str
    time_ps: np.ndarray
    msd_A2: np.ndarray
    diffusion_cm2_per_s: float
    error_cm2_per_s: float
    exponent: float
    fit_ps: tuple[float, float]
    blocks: int
    dimensions: int


def mean_squared_displacement(positions: np.ndarray) -> np.ndarray:
    """Mean over time origins and atoms of |r(t + lag) − r(t)|², by fast Fourier transforms.

    Parameters
    ----------
    positions : ndarray
        (frames, N, d) in Å in d dimensions, continuous across periodic boundaries.

    Returns
    -------
    ndarray
        (frames,) in Å², by lag in frames.

    References
    ----------
    Calandrini et al., Collection SFN 12, 201 (2011).
    """
    frames = len(positions)
    centred = positions - positions.mean(axis=0)  # sums of large squares would cancel
    result = np.zeros(frames)
    for atom in range(centred.shape[1]):
        path = centred[:, atom]
        squares = np.square(path).sum(axis=-1)
        # Σ |r(t+m)|² + |r(t)|² over origins loses one term at either end with each further lag.
        ends = np.concatenate([[0.0], np.cumsum(squares[:-1] + squares[:0:-1])])
        sums = (2 * squares.sum() - ends) / (frames - np.arange(frames))
        result += sums - 2 * autocorrelation(path).sum(axis=-1)
    return result / max(centred.shape[1], 1)


def diffusion(
    frames: Sequence[Atoms],
    elements: str | Sequence[str] | None = None,
    interval: float | None = None,
    *,
    fit_ps: tuple[float, float] | None = None,
    blocks: int = 5,
    remove_drift: bool | None = None,
) -> Diffusion:
    """Self-diffusion coefficient by Einstein's relation, along the periodic directions: 3, of a slab 2, of a wire 1.

    Parameters
    ----------
    frames : sequence of Atoms
        At equal intervals, so short that no atom moves by half a cell.
    elements : str or sequence of str, optional
        Whose displacements; default all atoms. Those that the constraints of the first frame fix are left out.
    interval : float, optional
        fs between frames; default what the frames say.
    fit_ps : tuple of 2 float, optional
        Lags in ps between which a straight line is fitted; default from 10 % to 50 % of a block.
    blocks : int
        Parts whose slopes give the error.
    remove_drift : bool, optional
        Whether to subtract the motion of the centre of mass of all atoms; default where constraints hold no atoms and
        there is more than one.

    Raises
    ------
    ValueError
        If there are too few frames, no such atoms or all of them fixed, or no periodic directions.
    """
    check_frames(frames, 2)
    if not frames[0].pbc.any():
        raise ValueError(
            "diffusion is of atoms in periodic cells: a molecule on its own turns, and its atoms go nowhere"
        )
    step = interval_fs(frames, interval) / 1000
    chosen, label = _choose(frames[0], elements)
    length = len(frames) // blocks if blocks > 1 else 0
    if length < 10:
        raise ValueError(f"{len(frames)} frames in {blocks} blocks: at least 2 blocks of 10 frames are needed")
    positions = unwrapped_positions(frames)
    if drifts(frames[0]) if remove_drift is None else remove_drift:
        masses = frames[0].get_masses()
        positions = positions - (np.einsum("tnx,n->tx", positions, masses) / masses.sum())[:, None]
    positions = _along_periods(positions[:, chosen], frames[0])
    dimensions = positions.shape[-1]
    per_slope = _CM2_PER_S / (2 * dimensions)
    first, last = fit_ps or (0.1 * length * step, 0.5 * length * step)
    low, high = max(1, round(first / step)), round(last / step)
    if not low + 1 < high < length:
        raise ValueError(
            f"fit_ps = {first:g} to {last:g} ps: use three lags at least, up to {(length - 1) * step:g} ps"
        )
    msd = mean_squared_displacement(positions)
    lags = np.arange(len(frames)) * step
    window = slice(low, high + 1)
    parts = [mean_squared_displacement(positions[k * length : (k + 1) * length]) for k in range(blocks)]
    slopes = np.array([_slope(lags[window], part[window]) for part in parts])
    return Diffusion(
        label,
        lags,
        msd,
        _slope(lags[window], msd[window]) * per_slope,
        float(slopes.std(ddof=1) / np.sqrt(blocks)) * per_slope,
        _exponent(lags[window], msd[window]),
        (low * step, high * step),
        blocks,
        dimensions,
    )


def finite_size_correction_cm2_per_s(temperature_K: float, viscosity_mPa_s: float, cell_length_A: float) -> float:
    """What periodic images take from the diffusion coefficient of a liquid in a cubic cell: to be added.

    References
    ----------
    Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004), doi:10.1021/jp0477147.
    """
    if not (temperature_K > 0 and viscosity_mPa_s > 0 and cell_length_A > 0):
        raise ValueError(f"T = {temperature_K} K, η = {viscosity_mPa_s} mPa s, L = {cell_length_A} Å: all are above 0")
    thermal = _EWALD_CONSTANT * _BOLTZMANN_J_PER_K * temperature_K
    return 1e4 * thermal / (6 * np.pi * viscosity_mPa_s * 1e-3 * cell_length_A * 1e-10)


def _choose(atoms: Atoms, elements: str | Sequence[str] | None) -> tuple[np.ndarray, str]:
    if elements is None:
        return _not_held(atoms, np.ones(len(atoms), dtype=bool)), "all"
    names = [elements] if isinstance(elements, str) else list(elements)
    of_these = np.isin(atoms.get_chemical_symbols(), names)
    if not of_these.any():
        raise ValueError(f"no {' or '.join(names)} in {atoms.symbols}: choose elements that are there")
    return _not_held(atoms, of_these), "-".join(names)


def _not_held(atoms: Atoms, chosen: np.ndarray) -> np.ndarray:
    """Indices of those of (N,) bool ``chosen`` that constraints let go: the others would make the mean too small."""
    free = np.flatnonzero(chosen & ~fixed_atoms(atoms))
    if not len(free):
        raise ValueError("constraints hold all of these atoms: nothing diffuses")
    return free


def _along_periods(positions: np.ndarray, atoms: Atoms) -> np.ndarray:
    """(frames, N, d) components in the space of the d periodic lattice vectors: elsewhere atoms cannot diffuse."""
    if atoms.pbc.all():
        return positions
    axes, _ = np.linalg.qr(atoms.cell.array[atoms.pbc].T)
    return positions @ axes


def _slope(time: np.ndarray, values: np.ndarray) -> float:
    return float(np.polyfit(time, values, 1)[0])


def _exponent(time: np.ndarray, values: np.ndarray) -> float:
    if not (values > 0).all():
        return float("nan")
    return _slope(np.log(time), np.log(values))
