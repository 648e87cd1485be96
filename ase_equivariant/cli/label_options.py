"""Options that say where files keep labels, for the commands that read them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ase_equivariant.training.labels import LabelConfig

UnitsOption = Annotated[str, typer.Option(help="Unit of the energies: auto, eV, kcal/mol, kJ/mol or Hartree.")]
LengthOption = Annotated[str, typer.Option(help="Unit of the positions: Angstrom or Bohr.")]
LabelsOption = Annotated[str, typer.Option(help="revised or original labels of an rMD17 file.")]
EnergyOption = Annotated[str | None, typer.Option(help="Name of the energies, if not ASE's.")]
ForcesOption = Annotated[str | None, typer.Option(help="Name of the forces, if not ASE's.")]
StressOption = Annotated[str | None, typer.Option(help="Name of the stresses, if not ASE's.")]
VirialOption = Annotated[str | None, typer.Option(help="Name of virials, in the energies' unit, instead of stresses.")]
DipoleOption = Annotated[str | None, typer.Option(help="Name of the dipoles, if not ASE's.")]
DipoleUnitsOption = Annotated[str, typer.Option(help="e*Angstrom, Debye or au.")]
DipoleOriginOption = Annotated[
    str, typer.Option(help="What dipoles of ions are about: coordinates (their origin) or mass (its centre).")
]
PolarizabilityOption = Annotated[str | None, typer.Option(help="Name of the polarizabilities.")]
PolarizabilityUnitsOption = Annotated[str, typer.Option(help="e2*Angstrom2/eV, Angstrom3 or au.")]
ChargesOption = Annotated[str | None, typer.Option(help="Name of the charges of atoms, if not ASE's.")]
ChargeOption = Annotated[str, typer.Option(help="Name of a structure's charge.")]
BornOption = Annotated[str | None, typer.Option(help="Name of Born effective charges, (N, 9) or (N, 3, 3).")]


def label_config(born_key: str | None = None, **options: Any) -> LabelConfig:
    """What the options say, by the names that :class:`LabelConfig` has for them."""
    return LabelConfig.parse({**options, "readout_keys": {"born_effective_charges": born_key} if born_key else {}})
