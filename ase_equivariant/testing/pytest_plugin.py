"""The checks of a calculator as a pytest plugin, for any calculator.

``pytest -p ase_equivariant.testing.pytest_plugin --ase-calculator "module:factory" [--ase-structure FILE]``
runs one test a check; what the calculator does not offer is skipped with the reason. ``factory`` is a calculator, its
class, or a function without arguments that makes one. Without the option the plugin does nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ase.io import read
from ase.io.formats import UnknownFileTypeError

from ase_equivariant.testing.conformance import Subject

_SUITE = Path(__file__).parent / "conformance" / "suite.py"
_SUBJECT = pytest.StashKey[Subject]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options."""
    group = parser.getgroup("ase", "conformance of an ASE calculator")
    group.addoption("--ase-calculator", metavar="MODULE:FACTORY", help="what makes the calculator to check")
    group.addoption("--ase-structure", metavar="FILE", help="a structure that it can compute; default some are tried")


def pytest_configure(config: pytest.Config) -> None:
    """Collect the checks: beside the tests named on the command line, or alone if none are."""
    if config.getoption("--ase-calculator") is None:
        if config.getoption("--ase-structure") is not None:
            raise pytest.UsageError("--ase-structure needs --ase-calculator")
        return
    named = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    config.args = [*named, str(_SUITE)]
    config.stash[_SUBJECT] = _subject(config)


def _subject(config: pytest.Config) -> Subject:
    name, structure = config.getoption("--ase-calculator"), config.getoption("--ase-structure")
    folder = config.invocation_params.dir
    try:
        atoms = None if structure is None else read(folder / structure)
        return Subject(load(name, folder), atoms)  # type: ignore[arg-type]
    except (ValueError, OSError, UnknownFileTypeError) as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def ase_subject(pytestconfig: pytest.Config) -> Subject:
    """The calculator of the command line with its structure."""
    return pytestconfig.stash[_SUBJECT]


def load(name: str, folder: Path) -> Any:
    """What "module:attribute" names; modules in ``folder`` are found too.

    Raises
    ------
    ValueError
        If there is none.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"{name!r} is not of the form module:factory, such as ase.calculators.emt:EMT")
    sys.path.insert(0, str(folder))
    try:
        found = import_module(module)
    except ImportError as error:
        raise ValueError(f"cannot import {module!r} of {name!r}: {error}") from error
    finally:
        sys.path.remove(str(folder))
    if not hasattr(found, attribute):
        raise ValueError(f"module {module!r} has no {attribute!r}")
    return getattr(found, attribute)
