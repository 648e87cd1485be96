"""Options that say where files keep labels, for the commands that read them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from ase_equivariant.training.labels import LabelConfig


def _options(
    units: Annotated[str, typer.Option(help="Unit of the energies: auto, eV, kcal/mol, kJ/mol or Hartree.")] = "auto",
    length_units: Annotated[str, typer.Option(help="Unit of the positions: Angstrom or Bohr.")] = "Angstrom",
    labels: Annotated[str, typer.Option(help="revised or original labels of an rMD17 file.")] = "revised",
    energy_key: Annotated[str | None, typer.Option(help="Name of the energies, if not ASE's.")] = None,
    forces_key: Annotated[str | None, typer.Option(help="Name of the forces, if not ASE's.")] = None,
    stress_key: Annotated[str | None, typer.Option(help="Name of the stresses, if not ASE's.")] = None,
    virial_key: Annotated[
        str | None, typer.Option(help="Name of virials, in the energies' unit, instead of stresses.")
    ] = None,
    dipole_key: Annotated[str | None, typer.Option(help="Name of the dipoles, if not ASE's.")] = None,
    dipole_units: Annotated[str, typer.Option(help="e*Angstrom, Debye or au.")] = "e*Angstrom",
    dipole_origin: Annotated[
        str, typer.Option(help="What dipoles of ions are about: coordinates (their origin) or mass (its centre).")
    ] = "coordinates",
    polarizability_key: Annotated[str | None, typer.Option(help="Name of the polarizabilities.")] = None,
    polarizability_units: Annotated[str, typer.Option(help="e2*Angstrom2/eV, Angstrom3 or au.")] = "e2*Angstrom2/eV",
    charges_key: Annotated[str | None, typer.Option(help="Name of the charges of atoms, if not ASE's.")] = None,
    charge_key: Annotated[str, typer.Option(help="Name of a structure's charge.")] = "charge",
    born_key: Annotated[str | None, typer.Option(help="Name of Born effective charges, (N, 9) or (N, 3, 3).")] = None,
) -> None:
    """The options of every command that reads labels."""


def reads_labels(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options in place of its parameter ``label_options``, where it gets their values."""
    options = inspect.signature(_options, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.parameters.items():
        parameters += options.values() if name == "label_options" else [parameter]

    @wraps(command)
    def run(**values: Any) -> None:
        label_options = {name: values.pop(name) for name in options}
        command(**values, label_options=label_options)

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def label_config(label_options: dict[str, Any]) -> LabelConfig:
    """What the options say, by the names that :class:`LabelConfig` has for them."""
    values = dict(label_options)
    born_key = values.pop("born_key")
    return LabelConfig.parse({**values, "readout_keys": {"born_effective_charges": born_key} if born_key else {}})
