"""What ASE and its users expect of a calculator, as checks for any calculator. Needs ASE and numpy only.

Each check is a function of a :class:`Subject` that raises ConformanceError, an AssertionError, with one message (what
was expected, what was found, why it matters) or :class:`NotOffered` if the calculator lacks what the check is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ase import Atoms

from ase_equivariant.testing.conformance import cells, changes, copies, gradients, values
from ase_equivariant.testing.conformance.subject import ConformanceError, NotOffered, Subject

__all__ = ["CHECKS", "NotOffered", "Outcome", "Subject", "assert_ase_calculator", "run_check"]

Check = Callable[[Subject], None]

_MODULES = (values, gradients, changes, copies, cells)
CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        name.removeprefix("check_"): function
        for module in _MODULES
        for name, function in vars(module).items()
        if name.startswith("check_") and function.__module__ == module.__name__
    }
)
"""Every check by its name, in the order in which a failure of one explains those of later ones."""


class Outcome(NamedTuple):
    """What a check said: ``state`` is passed, failed or not offered; ``message`` why, empty if passed."""

    name: str
    state: str
    message: str


def run_check(name: str, subject: Subject) -> Outcome:
    """Run a check. What the calculator raises is a failure.

    Except NotImplementedError, and ASE's CalculatorSetupError of a new calculator for a changed structure: a refusal.
    """
    try:
        CHECKS[name](subject)
    except ConformanceError as error:
        return Outcome(name, "failed", str(error))
    except (NotOffered, NotImplementedError) as reason:
        return Outcome(name, "not offered", str(reason))
    except Exception as error:  # whatever a calculator may raise
        first = (str(error).splitlines() or [""])[0]
        return Outcome(name, "failed", f"the calculator raised {type(error).__name__}: {first:.200}")
    return Outcome(name, "passed", "")


def assert_ase_calculator(calculator: Any, structure: Atoms | None = None) -> list[Outcome]:
    """Check that a calculator does what ASE and its users expect of one.

    Properties, types and shapes; forces and stress against differences of energies, with ASE's signs, units and Voigt
    order; free energy; whether every change is noticed; that the order of questions decides nothing; pickle, deepcopy,
    todict; sharing by the images of a NEB; trajectories; atoms outside the cell; mixed periodicity; single atoms; that
    the user's Atoms are left as they were.
    The unit of the energy itself cannot be known. Accuracy is asked for as far as the energy's own rounding and
    cutoff let see it: forces and stress may be off by 0.2 percent of the largest component, and by up to two where
    differences of the energy leave that in doubt; see :func:`ase_equivariant.testing.assert_derivatives` for more.

    Parameters
    ----------
    calculator : calculator or callable
        Any ASE calculator, which is copied, or a function without arguments that makes new ones.
    structure : Atoms, optional
        Something that it can compute, best a small crystal of two elements. Default the first of Cu3Al, silicon,
        ethanol and water that it computes.

    Returns
    -------
    list of Outcome
        Of every check: what passed, and what the calculator does not offer.

    Raises
    ------
    AssertionError
        Lists every check that failed, with what was expected, what was found, and why it matters.
    ValueError
        If this is no calculator, what should make one needs arguments, the structure is none or has no atoms, or it
        cannot be computed.
    """
    subject = Subject(calculator, structure)
    outcomes = [run_check(name, subject) for name in CHECKS]
    failures = [f"{name}: {message}" for name, state, message in outcomes if state == "failed"]
    if failures:
        listed = "\n".join(failures)
        raise AssertionError(f"{subject.name} fails {len(failures)} of {len(CHECKS)} checks\n{listed}")
    return outcomes
