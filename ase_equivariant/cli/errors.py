"""Errors of the user's input as one line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from rich.text import Text


def run_program(program: Callable[[], object]) -> None:
    """Run a command or a program; an error of the user's input is one line on stderr and exit status 1.

    With ``--debug`` among the arguments it keeps its traceback.
    """
    try:
        program()
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if "--debug" in sys.argv:
            raise
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(1)
