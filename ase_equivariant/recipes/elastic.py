"""Elastic constants of crystals from the stress of strained cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.stress import voigt_6_to_full_3x3_strain

from ase_equivariant.recipes.relax import relax

_RESIDUAL_LIMIT_GPa = 0.5
# Strain moves ions by forces of about 10 eV/Å by unit strain (silicon's shear 9): a small part of that may be left.
_FORCE_BY_STRAIN_eV_PER_A = 0.02
_NO_RESISTANCE_GPa = 1e-3  # argon has constants of some GPa


@dataclass(frozen=True)
class ElasticResult:
    """Elastic constants in GPa, in the axes of the cell given.

    Attributes
    ----------
    C_GPa : ndarray
        (6, 6) symmetric stiffness, Voigt order xx yy zz yz xz xy.
    asymmetry_GPa : float
        Largest |C_ij − C_ji| before C was made symmetric: how far the numbers are to be trusted.
    residual_stress_GPa : float
        Largest stress component of the unstrained cell.
    bulk_voigt_GPa, bulk_reuss_GPa, bulk_hill_GPa : float
        Bulk modulus of a polycrystal: upper bound, lower bound, their mean.
    shear_voigt_GPa, shear_reuss_GPa, shear_hill_GPa : float
        Shear modulus.
    young_GPa, poisson : float
        Young's modulus and Poisson's ratio, from Hill's means.
    stable : bool
        Whether every small strain costs energy (C positive definite).
    """

    C_GPa: np.ndarray
    asymmetry_GPa: float
    residual_stress_GPa: float
    bulk_voigt_GPa: float
    bulk_reuss_GPa: float
    bulk_hill_GPa: float
    shear_voigt_GPa: float
    shear_reuss_GPa: float
    shear_hill_GPa: float
    young_GPa: float
    poisson: float
    stable: bool


def elastic_constants(
    atoms: Atoms, strain: float = 0.005, *, relax_ions: bool = True, fmax: float = 1e-3, steps: int = 500
) -> ElasticResult:
    """Stiffness tensor by central differences of the stress over the six strains.

    Parameters
    ----------
    atoms : Atoms
        A crystal at its equilibrium cell, with a calculator that gives stress; not changed.
    strain : float
        Of each component, in both directions; shear strains are engineering strains, twice the tensor's component.
    relax_ions : bool
        Whether the ions relax in the strained cell; without, the constants are those of clamped ions.
    fmax, steps : float, int
        Of that relaxation: the largest force left, in eV/Å, at most 0.02 ``strain``, as forces that a small strain
        causes are small themselves and ions that need not move give clamped constants; number of steps.

    Raises
    ------
    ValueError
        If the atoms are no crystal with a calculator, are constrained, or their cell is not relaxed
        or resists no strain.
    RuntimeError
        If the ions do not relax in ``steps``.

    References
    ----------
    de Jong et al., Sci. Data 2, 150009 (2015); averages: Hill, Proc. Phys. Soc. A 65, 349 (1952).
    """
    check_elastic(atoms, strain)
    if atoms.calc is None:
        raise ValueError("the atoms have no calculator: set atoms.calc first")
    settings = (min(fmax, _FORCE_BY_STRAIN_eV_PER_A * strain), steps) if relax_ions else None
    residual = float(np.abs(_stress_GPa(atoms, np.zeros(6), settings)).max())
    if residual > _RESIDUAL_LIMIT_GPa:
        raise ValueError(f"the cell is under a stress of {residual:.2f} GPa: relax it first, to less than 0.5 GPa")
    raw = np.empty((6, 6))
    for j, direction in enumerate(np.eye(6)):
        ahead, behind = (_stress_GPa(atoms, sign * strain * direction, settings) for sign in (1, -1))
        raw[:, j] = (ahead - behind) / (2 * strain)
    if np.abs(raw).max() < _NO_RESISTANCE_GPa:
        raise ValueError(
            f"{atoms.get_chemical_formula()} does not resist strain (largest constant {np.abs(raw).max():.1g} GPa): "
            "molecules in a box that do not touch have no elastic constants"
        )
    return averages_of((raw + raw.T) / 2, float(np.abs(raw - raw.T).max()), residual)


def check_elastic(atoms: Atoms, strain: float) -> None:
    """Raise ValueError for atoms that are no crystal or constrained, and strains that make no sense."""
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise ValueError(f"elastic constants need a crystal, periodic in all directions: {atoms.symbols} is none")
    if atoms.constraints:
        raise ValueError("elastic constants need free atoms: remove the constraints (atoms.set_constraint())")
    if not 0 < strain <= 0.05:
        raise ValueError(f"strain = {strain}: use 0 < strain <= 0.05")


def averages_of(stiffness_GPa: np.ndarray, asymmetry_GPa: float = 0.0, residual_GPa: float = 0.0) -> ElasticResult:
    """Averages over orientations, and stability, of a symmetric stiffness (6, 6) in GPa.

    >>> round(averages_of(np.diag([2.0, 2, 2, 1, 1, 1])).shear_hill_GPa, 6)
    1.0
    """
    C = stiffness_GPa
    bulk_voigt, shear_voigt = _voigt(C)
    if np.linalg.cond(C) < 1e12:
        S = np.linalg.inv(C)
        bulk_reuss = 1 / S[:3, :3].sum()
        trace, off = np.trace(S[:3, :3]), S[0, 1] + S[0, 2] + S[1, 2]
        shear_reuss = 15 / (4 * (trace - off) + 3 * np.trace(S[3:, 3:]))
    else:
        bulk_reuss = shear_reuss = 0.0
    bulk, shear = (bulk_voigt + bulk_reuss) / 2, (shear_voigt + shear_reuss) / 2
    return ElasticResult(
        C,
        asymmetry_GPa,
        residual_GPa,
        float(bulk_voigt),
        float(bulk_reuss),
        float(bulk),
        float(shear_voigt),
        float(shear_reuss),
        float(shear),
        float(9 * bulk * shear / (3 * bulk + shear)),
        float((3 * bulk - 2 * shear) / (2 * (3 * bulk + shear))),
        bool(np.linalg.eigvalsh(C).min() > 0),
    )


def _voigt(C: np.ndarray) -> tuple[float, float]:
    trace, off = np.trace(C[:3, :3]), C[0, 1] + C[0, 2] + C[1, 2]
    return (trace + 2 * off) / 9, (trace - off + 3 * np.trace(C[3:, 3:])) / 15


def _stress_GPa(atoms: Atoms, strain: np.ndarray, relaxation: tuple[float, int] | None) -> np.ndarray:
    """(6,) stress of the strained cell, its ions relaxed to (fmax, steps)."""
    trial = atoms.copy()
    trial.calc = atoms.calc
    # Voigt strains are engineering strains; ASE's function adds the identity to the symmetric tensor.
    trial.set_cell(atoms.cell.array @ voigt_6_to_full_3x3_strain(strain), scale_atoms=True)
    if relaxation is not None:
        fmax, steps = relaxation
        result = relax(trial, fmax=fmax, steps=steps)
        if not result.converged:
            raise RuntimeError(
                f"the ions of a strained cell do not relax to {fmax:g} eV/Å in {steps} steps (largest force "
                f"{result.max_force:.2g} eV/Å): take more steps, or a larger strain"
            )
    return trial.get_stress() / units.GPa
