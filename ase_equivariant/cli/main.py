"""The ``ase-equivariant`` command."""

from __future__ import annotations

import typer

from ase_equivariant import __version__
from ase_equivariant.cli.analyse import analyse
from ase_equivariant.cli.data import data
from ase_equivariant.cli.elastic import elastic
from ase_equivariant.cli.errors import run_program
from ase_equivariant.cli.evaluate import evaluate
from ase_equivariant.cli.info import info
from ase_equivariant.cli.ipi import ipi
from ase_equivariant.cli.lammps_plugin import lammps
from ase_equivariant.cli.md import md
from ase_equivariant.cli.models import models
from ase_equivariant.cli.phonons import phonons
from ase_equivariant.cli.relax import relax
from ase_equivariant.cli.spectrum import spectrum
from ase_equivariant.cli.torsion import torsion
from ase_equivariant.cli.train import train

COMMANDS = (train, evaluate, md, relax, analyse, elastic, phonons, torsion, spectrum, ipi, info)

app = typer.Typer(
    name="ase-equivariant",
    help="E(3)-equivariant neural network potentials for ASE.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _command in COMMANDS:
    app.command()(_command)
app.add_typer(models)
app.add_typer(data)
app.add_typer(lammps)


def _version(asked: bool) -> None:
    if asked:
        print(f"ase-equivariant {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    pass


def main() -> None:
    """Run the command line; an error of the user's input is one line on stderr and exit status 1."""
    run_program(app)


if __name__ == "__main__":
    main()
