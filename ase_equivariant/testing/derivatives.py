"""Check that forces and stress are the derivatives of the energy."""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.potential.potential import Potential, Prediction
from ase_equivariant.testing.differences import (
    Check,
    Model,
    difference_quotient,
    force_checks,
    require_atoms,
    stress_checks,
)

# A difference quotient of energies E is uncertain by so many times ε·|E|/step.
_ROUNDING = 1e3


class AseCalculator(Protocol):
    """Any ASE calculator."""

    def get_property(self, name: str, atoms: Atoms | None = None) -> Any:
        """Value of a property of ``atoms``."""


def assert_derivatives(
    model: Potential | FrozenPotential | AseCalculator,
    atoms: Atoms,
    *,
    tolerance: float = 1e-6,
    step: float = 1e-3,
    num_components: int | None = None,
    seed: int = 0,
) -> float:
    """Check forces, and stress if the atoms have a three-dimensional cell, against differences of energies.

    Of a calculator without stress forces alone are checked, and a UserWarning says so.

    Central differences of sixth order; the model must be computed in float64. A pair of atoms within ``3 · step`` of
    a point where the potential is not smooth (a plain cutoff) spoils the differences, not the derivatives.

    Parameters
    ----------
    model : Potential, FrozenPotential or ASE calculator
        What to check.
    atoms : Atoms
        Where; not changed.
    tolerance : float
        Largest difference allowed, relative to the largest force or stress component. Infinity to measure only.
    step : float
        Å for positions, and dimensionless for strains.
    num_components : int, optional
        Check so many random components each of forces and stress instead of all.
    seed : int
        Of the choice.

    Returns
    -------
    float
        The largest violation found.

    Raises
    ------
    AssertionError
        Names the component and both values.
    ValueError
        If a potential is not in float64, a calculator has no forces, there are no atoms, or settings compare nothing.
    """
    require_atoms(atoms)
    for name, value in (("tolerance", tolerance), ("step", step)):
        if not value > 0:
            raise ValueError(f"{name} should be above 0, it is {value}")
    if not np.isfinite(step):
        raise ValueError(f"step should be finite, it is {step}")
    if num_components is not None and num_components < 1:
        raise ValueError(f"num_components should be 1 or more, or None for all, it is {num_components}")
    ask = _model(model)
    energy, rng, worst = ask.energy(atoms), np.random.default_rng(seed), 0.0
    for check in _checks(ask, type(model).__name__, atoms, num_components, rng):
        uncertainty = _ROUNDING * np.finfo(np.float64).eps * max(1.0, abs(energy)) / step / abs(check.size)
        expected = difference_quotient(ask.energy, check.displaced, step) / check.size
        violation = abs(float(check.value) - expected) / max(float(check.scale), uncertainty / tolerance)
        if not violation <= tolerance:
            raise AssertionError(
                f"{check.name} is {check.value:.10g}, energy differences give {expected:.10g}: wrong by "
                f"{violation:.2e} relative to the largest component, allowed is {tolerance:.0e}"
            )
        worst = max(worst, violation)
    return worst


def _checks(ask: Model, name: str, atoms: Atoms, count: int | None, rng: np.random.Generator) -> list[Check]:
    try:
        forces = list(force_checks(ask, atoms, count, rng))
    except PropertyNotImplementedError as error:
        raise ValueError(f"{name} offers no forces: there is nothing to check") from error
    try:
        return [*forces, *stress_checks(ask, atoms, count, rng)]
    except PropertyNotImplementedError:
        warnings.warn(f"{name} offers no stress: its forces alone are checked", stacklevel=3)
        return forces


def _model(model: Potential | FrozenPotential | AseCalculator) -> Model:
    if not isinstance(model, Potential | FrozenPotential):
        calculator = model
        return Model(
            energy=lambda atoms: float(calculator.get_property("energy", atoms)),
            forces=lambda atoms: calculator.get_property("forces", atoms),
            stress=lambda atoms: calculator.get_property("stress", atoms),
        )
    potential = model
    if potential.dtype != torch.float64:
        raise ValueError(f"differences of energies need float64, the potential is {potential.dtype}: use .double()")

    def predict(atoms: Atoms, forces: bool = True, stress: bool = False) -> Prediction:
        graph = atoms_to_graph(atoms, potential.cutoff, device=potential.device)
        return potential(graph, forces=forces, stress=stress)

    return Model(
        energy=lambda atoms: float(predict(atoms, forces=False)["energy"][0]),
        forces=lambda atoms: predict(atoms)["forces"].cpu().numpy(),
        stress=lambda atoms: full_3x3_to_voigt_6_stress(predict(atoms, stress=True)["stress"][0].cpu().numpy()),
    )
