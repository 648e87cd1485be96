"""Checks for potentials, layers and calculators: each measures a violation, and raises if it is too large.

>>> from ase_equivariant.testing import TEST_SYSTEMS, assert_derivatives
>>> from ase.calculators.lj import LennardJones
>>> violation = assert_derivatives(LennardJones(smooth=True, rc=8.0), TEST_SYSTEMS["molecule"]())
>>> violation < 1e-6
True

:func:`assert_ase_calculator` and ``ase_equivariant.testing.pytest_plugin`` need nothing but ASE and numpy (and pytest).
"""

from typing import TYPE_CHECKING

from ase_equivariant.lazy import exports

if TYPE_CHECKING:
    from ase_equivariant.testing.conformance import assert_ase_calculator
    from ase_equivariant.testing.derivatives import assert_derivatives
    from ase_equivariant.testing.equivariance import assert_equivariant
    from ase_equivariant.testing.systems import TEST_SYSTEMS

__all__ = ["TEST_SYSTEMS", "assert_ase_calculator", "assert_derivatives", "assert_equivariant"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "TEST_SYSTEMS": "ase_equivariant.testing.systems",
        "assert_ase_calculator": "ase_equivariant.testing.conformance",
        "assert_derivatives": "ase_equivariant.testing.derivatives",
        "assert_equivariant": "ase_equivariant.testing.equivariance",
    },
)
