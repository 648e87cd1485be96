"""Checks for potentials and layers: each measures a violation, raises if it is too large and else returns it.

>>> from ase_equivariant.testing import TEST_SYSTEMS, assert_derivatives
>>> from ase.calculators.lj import LennardJones
>>> violation = assert_derivatives(LennardJones(smooth=True, rc=8.0), TEST_SYSTEMS["molecule"]())
>>> violation < 1e-6
True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from torch import Tensor

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.irreps import Irreps, blocks, clebsch_gordan
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.potential.potential import Potential, Prediction

__all__ = ["TEST_SYSTEMS", "assert_derivatives", "assert_equivariant"]

Floats = NDArray[np.float64]

# Weights of f(x + k·h) − f(x − k·h), k = 1, 2, 3, in the central difference of order 6; the error is h⁶ f⁽⁷⁾/140.
_STENCIL = (3 / 4, -3 / 20, 1 / 60)
# A difference quotient of energies E is uncertain by so many times ε·|E|/step.
_ROUNDING = 1e3
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


class AseCalculator(Protocol):
    """Any ASE calculator."""

    def get_property(self, name: str, atoms: Atoms | None = None) -> Any:
        """Value of a property of ``atoms``."""


def assert_equivariant(
    fn: Callable[..., Tensor],
    irreps_in: Irreps | str,
    irreps_out: Irreps | str,
    *,
    positions: Tensor | None = None,
    inversion: bool = True,
    tolerance: float = 1e-10,
    num_rows: int = 8,
    num_rotations: int = 3,
    seed: int = 0,
) -> float:
    r"""Check ``fn(D_in(R) x, R r) = D_out(R) fn(x, r)`` for random features x and operations R.

    Parameters
    ----------
    fn : callable
        ``fn(features)``, or ``fn(features, positions)`` if positions are given: (N, irreps_in.dim) float64 and
        (N, 3) to (M, irreps_out.dim), features component-major (:mod:`ase_equivariant.irreps`).
    irreps_in, irreps_out : Irreps or str
        How features and result turn.
    positions : Tensor, optional
        (N, 3), turned as polar vectors.
    inversion : bool
        Whether rotations times the inversion, hence all of O(3), are tried too.
    tolerance : float
        Largest difference allowed, relative to the largest absolute value of the result.
    num_rows : int
        N if no positions are given.
    num_rotations, seed : int
        How many random rotations, and of which random numbers.

    Returns
    -------
    float
        The largest violation found.

    Raises
    ------
    AssertionError
        If it is larger than ``tolerance``; names the operation and the irrep that turns wrongly.
    """
    irreps_in, irreps_out = Irreps(irreps_in), Irreps(irreps_out)
    generator = torch.Generator().manual_seed(seed)
    num_rows = num_rows if positions is None else len(positions)
    features = torch.randn(num_rows, irreps_in.dim, generator=generator, dtype=torch.float64)
    expected = fn(features) if positions is None else fn(features, positions)
    if expected.shape[-1] != irreps_out.dim:
        raise AssertionError(f"the result has {expected.shape[-1]} components, {irreps_out} has {irreps_out.dim}")
    scale = _largest(expected) or 1.0
    worst, culprit = 0.0, ""
    for rotation in (_random_rotation(generator) for _ in range(num_rotations)):
        for sign in (1, -1) if inversion else (1,):
            turned = turn_features(features, irreps_in, sign * rotation)
            result = fn(turned) if positions is None else fn(turned, positions.to(torch.float64) @ (sign * rotation).T)
            difference = (result - turn_features(expected, irreps_out, sign * rotation)) / scale
            for block in blocks(irreps_out):
                violation = _largest(difference[:, block.slice])
                if not violation <= worst:
                    worst, culprit = violation, f"{block.irrep} under a rotation{' with inversion' if sign < 0 else ''}"
    if not worst <= tolerance:
        raise AssertionError(f"not equivariant: {culprit} is wrong by {worst:.2e} relative, allowed is {tolerance:.0e}")
    return worst


def turn_features(features: Tensor, irreps: Irreps | str, matrix: Tensor) -> Tensor:
    """``D(R) x`` of component-major features (N, irreps.dim), for an orthogonal matrix R (3, 3) in float64."""
    inverts = bool(torch.linalg.det(matrix) < 0)
    parts = []
    for block in blocks(Irreps(irreps)):
        representation = _representation(block.l, -matrix if inverts else matrix) * (block.p if inverts else 1)
        parts.append(torch.einsum("ab,nbu->nau", representation.to(features.dtype), block.view(features)).flatten(1))
    return torch.cat(parts, dim=1)


def _representation(degree: int, rotation: Tensor) -> Tensor:
    """Wigner matrix D_l by ``D_l = (2l+1) Cᵀ (D_1 ⊗ D_(l−1)) C``, D_1 = R; e3nn's own are exact to 1e-7 only."""
    if degree == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    matrix = rotation.to(torch.float64)
    for l in range(2, degree + 1):  # noqa: E741
        coupling = clebsch_gordan(1, l - 1, l)
        matrix = (2 * l + 1) * torch.einsum("abm,ac,bd,cdn->mn", coupling, rotation, matrix, coupling)
    return matrix


def _random_rotation(generator: torch.Generator) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return q * torch.linalg.det(q)


def _largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0


class _Model(NamedTuple):
    """What :func:`assert_derivatives` needs of a model; stress as (6,) Voigt components."""

    energy: Callable[[Atoms], float]
    forces: Callable[[Atoms], Floats]
    stress: Callable[[Atoms], Floats]


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

    Central differences of sixth order; the model must be computed in float64. A pair of atoms within ``3 · step`` of
    a point where the potential is not smooth (a plain cutoff) spoils the differences, not the derivatives.

    Parameters
    ----------
    model : Potential, FrozenPotential or ASE calculator
        What to check.
    atoms : Atoms
        Where; not changed.
    tolerance : float
        Largest difference allowed, relative to the largest force or stress component.
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
        If a potential is not in float64.
    """
    ask = _model(model)
    energy, rng, worst = ask.energy(atoms), np.random.default_rng(seed), 0.0
    for check in [*_force_checks(ask, atoms, num_components, rng), *_stress_checks(ask, atoms, num_components, rng)]:
        uncertainty = _ROUNDING * np.finfo(np.float64).eps * max(1.0, abs(energy)) / step / abs(check.size)
        expected = _difference_quotient(ask.energy, check.displaced, step) / check.size
        violation = abs(float(check.value) - expected) / max(float(check.scale), uncertainty / tolerance)
        if not violation <= tolerance:
            raise AssertionError(
                f"{check.name} is {check.value:.10g}, energy differences give {expected:.10g}: wrong by "
                f"{violation:.2e} relative to the largest component, allowed is {tolerance:.0e}"
            )
        worst = max(worst, violation)
    return worst


def _model(model: Potential | FrozenPotential | AseCalculator) -> _Model:
    if not isinstance(model, Potential | FrozenPotential):
        calculator = model
        return _Model(
            energy=lambda atoms: float(calculator.get_property("energy", atoms)),
            forces=lambda atoms: calculator.get_property("forces", atoms),
            stress=lambda atoms: calculator.get_property("stress", atoms),
        )
    potential = model
    if potential.dtype != torch.float64:
        raise ValueError(f"differences of energies need float64, the potential is {potential.dtype}: use .double()")

    def predict(atoms: Atoms, **options: bool) -> Prediction:
        return potential(atoms_to_graph(atoms, potential.cutoff, device=potential.device), **options)

    return _Model(
        energy=lambda atoms: float(predict(atoms, forces=False)["energy"][0]),
        forces=lambda atoms: predict(atoms)["forces"].cpu().numpy(),
        stress=lambda atoms: full_3x3_to_voigt_6_stress(predict(atoms, stress=True)["stress"][0].cpu().numpy()),
    )


class _Check(NamedTuple):
    """A derivative: ``value`` should be ``dE(displaced(x))/dx / size``; ``scale`` is the largest of its kind."""

    name: str
    value: float
    displaced: Callable[[float], Atoms]
    size: float
    scale: float


def _force_checks(ask: _Model, atoms: Atoms, count: int | None, rng: np.random.Generator) -> Iterator[_Check]:
    forces = ask.forces(atoms)
    for atom, axis in _choose([(i, k) for i in range(len(atoms)) for k in range(3)], count, rng):
        name = f"force {'xyz'[axis]} (eV/Å) on atom {atom} ({atoms.symbols[atom]})"
        # F = −dE/dx: the size is −1.
        yield _Check(name, forces[atom, axis], partial(_moved, atoms, atom, axis), -1.0, np.abs(forces).max())


def _stress_checks(ask: _Model, atoms: Atoms, count: int | None, rng: np.random.Generator) -> Iterator[_Check]:
    if not atoms.cell.volume > 1e-8 * atoms.cell.lengths().prod():
        return
    stress = ask.stress(atoms)
    for component in _choose(list(range(6)), count, rng):
        name = f"stress {('xx', 'yy', 'zz', 'yz', 'xz', 'xy')[component]} (eV/Å³)"
        displaced = partial(_strained, atoms, *_VOIGT[component])
        yield _Check(name, stress[component], displaced, atoms.get_volume(), np.abs(stress).max())


def _difference_quotient(energy: Callable[[Atoms], float], displaced: Callable[[float], Atoms], step: float) -> float:
    pairs = [(energy(displaced(k * step)), energy(displaced(-k * step))) for k in (1, 2, 3)]
    return sum(w * (forward - backward) for w, (forward, backward) in zip(_STENCIL, pairs, strict=True)) / step


def _choose(candidates: Sequence[Any], count: int | None, rng: np.random.Generator) -> list[Any]:
    if count is None or count >= len(candidates):
        return list(candidates)
    return [candidates[k] for k in rng.choice(len(candidates), size=count, replace=False)]


def _moved(atoms: Atoms, atom: int, axis: int, distance: float) -> Atoms:
    moved = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    moved.positions[atom, axis] += distance
    return moved


def _strained(atoms: Atoms, a: int, b: int, strain: float) -> Atoms:
    """Atoms and cell under ε_ab = ε_ba = strain (half of it if a ≠ b), so that dE/dstrain = V σ_ab."""
    deformation = np.eye(3)
    deformation[a, b] += strain / 2
    deformation[b, a] += strain / 2
    return Atoms(
        atoms.numbers, positions=atoms.positions @ deformation, cell=atoms.cell.array @ deformation, pbc=atoms.pbc
    )


_SKEWED_CELL = ((4.1, 0.2, 0.0), (4.6, 3.9, -0.3), (-4.4, 4.2, 3.7))  # a compact lattice in unreduced vectors
_TINY_CELL = ((1.6, 0.1, 0.0), (0.2, 1.5, -0.2), (-0.1, 0.3, 2.1))


def _molecule() -> Atoms:
    return _rattled(molecule("CH3CH2OH"), 0.05)


def _bulk() -> Atoms:
    return _rattled(bulk("Si", cubic=True), 0.1)


def _skewed() -> Atoms:
    fractions = [[0.05, 0.1, 0.0], [0.55, 0.4, 0.1], [0.1, 0.6, 0.45], [0.6, 0.05, 0.6]]
    return Atoms("OSiCO", scaled_positions=fractions, cell=_SKEWED_CELL, pbc=True)


def _slab() -> Atoms:
    slab = bulk("Si", cubic=True) * (1, 1, 1)
    slab.pbc = (True, True, False)
    slab.cell[2] = (0.0, 0.0, 20.0)
    return _rattled(slab, 0.1)


def _wire() -> Atoms:
    positions = [[0.0, 0.0, 0.0], [0.9, 0.5, 0.6], [-0.8, 0.7, -0.1], [0.3, -0.6, 1.3]]
    return Atoms("COHH", positions=positions, cell=[[0, 0, 0], [0, 0, 0], [0.3, -0.2, 2.4]], pbc=(False, False, True))


def _atom() -> Atoms:
    return Atoms("O", positions=[[0.3, -0.2, 0.1]])


def _edgeless() -> Atoms:
    return Atoms("CO", positions=[[0.0, 0.0, 0.0], [30.0, 20.0, 10.0]])


def _tiny() -> Atoms:
    return Atoms("HC", scaled_positions=[[0.0, 0.1, 0.0], [0.45, 0.5, 0.55]], cell=_TINY_CELL, pbc=True)


def _mixed() -> Atoms:
    sites = np.stack(np.meshgrid([0.0, 0.5], [0.0, 0.5], [0.0, 0.5], indexing="ij"), axis=-1).reshape(8, 3)
    cell = [[3.9, 0.0, 0.0], [0.3, 4.1, 0.0], [-0.2, 0.4, 4.3]]
    return _rattled(Atoms("HCOSiHOCH", scaled_positions=sites, cell=cell, pbc=True), 0.15)


def _rattled(atoms: Atoms, amplitude: float) -> Atoms:
    """Off every symmetry: forces that vanish by symmetry would check nothing."""
    atoms.positions += amplitude * np.random.default_rng(0).uniform(-1, 1, atoms.positions.shape)
    return atoms


TEST_SYSTEMS: Mapping[str, Callable[[], Atoms]] = MappingProxyType(
    {
        "molecule": _molecule,
        "bulk": _bulk,
        "skewed": _skewed,
        "slab": _slab,
        "wire": _wire,
        "atom": _atom,
        "edgeless": _edgeless,
        "tiny": _tiny,
        "mixed": _mixed,
    }
)
"""Factories of small structures that potentials get wrong, of H, C, O and Si and off every symmetry.

``molecule`` without a cell; ``bulk`` crystal; ``skewed`` unreduced cell; ``slab`` periodic in two directions with a
three-dimensional cell; ``wire`` periodic in one direction, the other cell vectors zero; a single ``atom``; an
``edgeless`` pair far apart; ``tiny`` cell whose atoms see their own images; ``mixed`` elements.
"""
