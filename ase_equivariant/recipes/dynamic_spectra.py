"""Infrared and Raman spectra from the motion of dipole and polarizability along a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from ase import Atoms, units
from ase.constraints import FixCom
from scipy.linalg import null_space
from torch import Tensor

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.graph.convert import atoms_to_graph, dipole_of_isotopes
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.repulsion import COULOMB
from ase_equivariant.recipes.frames import (
    check_frames,
    fixed_atoms,
    holds_whole_atoms,
    interval_fs,
    other_constraints,
    velocities,
)
from ase_equivariant.recipes.normal_modes import rigid_motions
from ase_equivariant.recipes.spectra import KM_PER_MOL, check_moments
from ase_equivariant.recipes.vibrations import PER_CM_PER_THZ, autocorrelation, cosine_transform, lags_for

_REST_K = 1e-3  # what rounding alone makes of atoms at rest is far below


@dataclass(frozen=True)
class DynamicSpectrum:
    """Spectra of a moving molecule; their integrals over a band compare with harmonic intensities.

    Attributes
    ----------
    wave_number_per_cm : ndarray
        (n,) from 0.
    ir_km_cm_per_mol : ndarray or None
        (n,) molar absorption by wave number, km/mol per 1/cm.
    raman_A4_cm_per_amu : ndarray or None
        (n,) Raman activity by wave number, Å⁴/amu per 1/cm.
    temperature_K : float
        Of the vibrations.
    resolution_per_cm : float
        Width of the narrowest band.
    """

    wave_number_per_cm: np.ndarray
    ir_km_cm_per_mol: np.ndarray | None
    raman_A4_cm_per_amu: np.ndarray | None
    temperature_K: float
    resolution_per_cm: float


def dynamic_spectrum(
    frames: Sequence[Atoms], calc: EquivariantCalculator, interval: float | None = None, resolution_per_cm: float = 10.0
) -> DynamicSpectrum:
    """IR from the autocorrelation of the dipole, Raman from that of the polarizability, along a trajectory.

    Classical nuclei with the harmonic quantum correction: ``∫ ⟨μ̇(0)·μ̇(t)⟩ cos ωt dt`` over 6 ε₀ c k_B T is the
    cross section of absorption. Rotation, if the molecule does so, gives bands their branches.

    Parameters
    ----------
    frames : sequence of Atoms
        Of a molecule, with momenta, at equal intervals of about 1 fs.
    calc : EquivariantCalculator
        Whose model predicts a dipole, a polarizability or both.
    interval : float, optional
        fs between frames; default what the frames say.
    resolution_per_cm : float
        Width of the bands.

    Raises
    ------
    ValueError
        If frames are periodic, too few or without momenta, constraints hold more than whole atoms, or the model
        predicts neither.

    References
    ----------
    Thomas, Brehm, Fligg, Vöhringer and Kirchner, Phys. Chem. Chem. Phys. 15, 6608 (2013).
    """
    check_moments(calc)
    check_frames(frames, 3)
    if frames[0].pbc.any():
        raise ValueError("the frames are periodic, and a periodic structure has no dipole: spectra are of molecules")
    step = interval_fs(frames, interval)
    lags = lags_for(resolution_per_cm / PER_CM_PER_THZ, step, len(frames) - 1)
    temperature = vibrational_temperature_K(frames)
    dipoles, alphas = moments(frames, calc)
    ir = raman = None
    if dipoles is not None:
        ir = KM_PER_MOL * np.asarray(slope_density(dipoles, step, temperature, lags)).sum(axis=0)
    if alphas is not None:
        alphas = COULOMB * alphas
        mean = np.trace(alphas, axis1=1, axis2=2) / 3
        traceless = (alphas - mean[:, None, None] * np.eye(3)).reshape(len(frames), 9)
        isotropic = slope_density(mean[:, None], step, temperature, lags).sum(axis=0)
        raman = 45 * isotropic + 7 * 1.5 * slope_density(traceless, step, temperature, lags).sum(axis=0)
    known = ir if ir is not None else raman
    assert known is not None
    wave_number = np.linspace(0, 500 / step * PER_CM_PER_THZ, len(known))
    return DynamicSpectrum(wave_number, ir, raman, temperature, resolution_per_cm)


def slope_density(signals: np.ndarray, step_fs: float, temperature_K: float, lags: int) -> np.ndarray:
    """Squared slopes by normal coordinate, spread over wave numbers: (components, n) in unit²/(Å²·amu) per 1/cm.

    A signal ``s Q`` of a harmonic mode of frequency ω at temperature T has ``⟨Q̇²⟩ = k_B T``, so the transform of
    ⟨ṡ(0) ṡ(t)⟩ over k_B T integrates to s² over the positive half of the axis.

    Parameters
    ----------
    signals : ndarray
        (frames, components).
    step_fs, temperature_K : float
        Between frames, of the vibrations.
    lags : int
        Of the correlation.
    """
    rates = np.diff(signals, axis=0) / (step_fs * units.fs)
    correlation = autocorrelation(rates, lags) / (units.kB * temperature_K)
    # Its transform is over positive and negative frequencies; only the positive ones are drawn: 4 ∫ C cos.
    density = np.stack([cosine_transform(part, step_fs) for part in correlation.T]) / PER_CM_PER_THZ
    # A difference over a step sees sin(ωΔ/2)/(Δ/2) in place of ω.
    half = np.linspace(0, np.pi / 2, density.shape[1])
    return density / np.sinc(half / np.pi) ** 2


def vibrational_temperature_K(frames: Sequence[Atoms]) -> float:
    """Mean temperature of what is no translation or rotation of the molecule, as far as atoms held leave it those.

    Raises
    ------
    ValueError
        If there are no momenta, constraints hold more than whole atoms, or nothing vibrates.
    """
    check_constraints(frames[0])
    fixed = np.repeat(fixed_atoms(frames[0]), 3)
    masses = frames[0].get_masses()
    speeds = velocities(frames) / units.fs * np.sqrt(masses)[:, None]
    total = 0.0
    for frame, speed in zip(frames, speeds.reshape(len(frames), -1), strict=True):
        rigid = rigid_motions(frame.positions, masses)
        if fixed.any():
            rigid = rigid @ null_space(rigid[fixed], rcond=1e-8)  # turns about the atoms that are held
        vibrating = np.count_nonzero(~fixed) - rigid.shape[1]
        total += (speed @ speed - np.square(speed @ rigid).sum()) / max(1, vibrating)
    temperature = float(total / len(frames) / units.kB)
    if not temperature > _REST_K:
        raise ValueError("nothing vibrates in these frames: there is no spectrum")
    return temperature


def check_constraints(atoms: Atoms) -> None:
    """Refuse constraints of which it is not known how many vibrations they take.

    Raises
    ------
    ValueError
        If they hold anything but whole atoms or the centre of mass.
    """
    kinds = [type(c).__name__ for c in atoms.constraints if not (holds_whole_atoms(c) or isinstance(c, FixCom))]
    for kind in [*kinds, *({*other_constraints(atoms)} - {FixCom.__name__})]:
        raise ValueError(
            f"the atoms are constrained by {kind}, with which their temperature is not known: "
            "take dynamics without it, or with whole atoms held (FixAtoms)"
        )


def moments(
    frames: Sequence[Atoms], calc: EquivariantCalculator, batch_size: int = 200
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Dipoles (frames, 3) e·Å and polarizabilities (frames, 3, 3) e²·Å²/eV of molecules; None for what is not there."""
    parts: dict[str, list[Tensor]] = {"dipole": [], "polarizability": []}
    for start in range(0, len(frames), batch_size):
        graph = AtomicGraph.collate([atoms_to_graph(f, calc.cutoff) for f in frames[start : start + batch_size]])
        prediction = calc.potential(graph, forces=False)
        for name, values in parts.items():
            if name in prediction:
                values.append(cast(Tensor, prediction[name]).cpu())
    dipoles, alphas = (torch.cat(values).numpy() if values else None for values in parts.values())
    if dipoles is not None:
        dipoles = dipoles + [dipole_of_isotopes(frame) for frame in frames]
    return dipoles, alphas
