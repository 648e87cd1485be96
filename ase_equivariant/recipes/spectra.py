"""Harmonic infrared and Raman intensities of a molecule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.potential.repulsion import COULOMB
from ase_equivariant.recipes.normal_modes import NormalModes, equivariant_calculator, normal_modes

# e²/amu as an integrated molar absorption N_A |dμ/dQ|² / (12 ε₀ c²), in km/mol.
KM_PER_MOL = 1e-3 * units._Nav * units._e**2 / (12 * units._eps0 * units._c**2 * units._amu)


@dataclass(frozen=True)
class HarmonicSpectrum:
    """Harmonic frequencies with intensities.

    Attributes
    ----------
    modes : NormalModes
        Frequencies in 1/cm, and displacements.
    ir_km_per_mol : ndarray or None
        (modes,) integrated molar absorption; None without a dipole.
    raman_A4_per_amu : ndarray or None
        (modes,) scattering activity ``45 a'² + 7 γ'²`` in Å⁴/amu; None without a polarizability.
    depolarization : ndarray or None
        (modes,) ratio ``3 γ'² / (45 a'² + 4 γ'²)`` for polarized light: 0 to 3/4, NaN for modes without activity.
    """

    modes: NormalModes
    ir_km_per_mol: np.ndarray | None
    raman_A4_per_amu: np.ndarray | None
    depolarization: np.ndarray | None


def harmonic_spectrum(atoms: Atoms) -> HarmonicSpectrum:
    """Harmonic IR and Raman intensities of a relaxed molecule, all derivatives analytic.

    Parameters
    ----------
    atoms : Atoms
        With an :class:`~ase_equivariant.EquivariantCalculator` (float64) whose model predicts a dipole, a
        polarizability or both.

    Raises
    ------
    ValueError
        If the model predicts neither, or as :func:`~ase_equivariant.recipes.normal_modes.normal_modes`.

    References
    ----------
    Neugebauer, Reiher, Kind and Hess, J. Comput. Chem. 23, 895 (2002).
    """
    calc = equivariant_calculator(atoms)
    check_moments(calc)
    modes = normal_modes(atoms)
    ir = raman = depolarization = None
    if "dipole" in calc.implemented_properties:
        ir = ir_intensities(modes, calc.get_property("born_effective_charges", atoms))
    if "polarizability" in calc.implemented_properties:
        raman, depolarization = raman_activities(modes, calc.get_polarizability_derivatives(atoms))
    return HarmonicSpectrum(modes, ir, raman, depolarization)


def ir_intensities(modes: NormalModes, born_effective_charges: np.ndarray) -> np.ndarray:
    """``N_A |dμ/dQ|² / (12 ε₀ c²)``, (modes,) km/mol, from dμ_a/dr_ib, (N, 3, 3) e."""
    slopes = np.einsum("iab,kib->ka", born_effective_charges, modes.displacements)
    return KM_PER_MOL * np.square(slopes).sum(axis=1)


def raman_activities(modes: NormalModes, derivatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activities in Å⁴/amu and depolarization ratios, (modes,) each, from dα_ab/dr_ic, (3, 3, N, 3) e²·Å/eV."""
    alpha = COULOMB * np.einsum("abic,kic->kab", derivatives, modes.displacements)
    mean, anisotropy = _invariants(alpha)
    below = 45 * mean + 4 * anisotropy
    return 45 * mean + 7 * anisotropy, 3 * anisotropy / np.where(below > 1e-12, below, np.nan)


def check_moments(calc: EquivariantCalculator) -> None:
    """Refuse a calculator whose model predicts neither dipole nor polarizability."""
    if not {"dipole", "polarizability"} & set(calc.implemented_properties):
        raise ValueError(
            f"{calc.model_name} predicts neither dipole nor polarizability, so there are no intensities: "
            "use a model that does, such as water-tensors"
        )


def _invariants(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squares of the mean and of the anisotropy of symmetric tensors (n, 3, 3)."""
    mean = np.trace(alpha, axis1=1, axis2=2) / 3
    traceless = alpha - mean[:, None, None] * np.eye(3)
    return mean**2, 1.5 * np.square(traceless).sum(axis=(1, 2))
