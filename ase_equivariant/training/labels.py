"""How labels are kept in files."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ase_equivariant.config import Config

Units = Literal["auto", "eV", "kcal/mol", "kJ/mol", "Hartree"]
Files = str | tuple[str, ...]
ADDED_LABELS = (
    "dipole_key", "dipole_units", "dipole_origin", "polarizability_key", "polarizability_units", "charges_key",
    "charge_key",
)  # fmt: skip


def listed(files: object) -> list[str]:
    """Files of an option that names one or several; none if it is a number or left out."""
    return [files] if isinstance(files, str) else list(files) if isinstance(files, tuple) else []


class LabelConfig(Config):
    """Where a file keeps its labels, and in what units.

    Attributes
    ----------
    units : {"auto", "eV", "kcal/mol", "kJ/mol", "Hartree"}
        Unit of the energy; forces are that per Å. "auto" is kcal/mol for ``.npz`` and eV else.
    length_units : {"Angstrom", "Bohr"}
        Unit of positions, cells and of the length in forces and stress.
    labels : {"revised", "original"}
        Which labels of an rMD17 file: the revised ones or those of the original MD17.
    energy_key, forces_key, stress_key : str or None
        Names in ``atoms.info`` and ``atoms.arrays``; default the calculator's results. In ``.npz`` files, which have no
        stress, names of arrays; default those of ``labels``.
    virial_key : str or None
        Name of a virial in the unit of the energy, taken as stress −virial/volume.
    dipole_key, polarizability_key, charges_key : str or None
        Names of dipole (3), polarizability (9) and atoms' charges (e), which sum to the structure's within 0.1 e;
        default the calculator's dipole and charges.
    dipole_units : {"e*Angstrom", "Debye", "au"}
        Unit of the dipole.
    dipole_origin : {"coordinates", "mass"}
        What dipoles of ions are about: the origin of the coordinates, or the centre of mass as EquivariantCalculator
        gives them. No file says so, and results of a calculator in it are taken like other labels.
    polarizability_units : {"e2*Angstrom2/eV", "Angstrom3", "au"}
        Unit of the polarizability.
    charge_key : str
        Name in ``atoms.info``, or of an array (structures,) of an ``.npz`` file, of a structure's total charge in e;
        zero where there is none.
    readout_keys : dict
        Names of other read-outs, ``{read-out: name}``; those in ``atoms.arrays`` are by atom. Arrays (structures, …)
        of an ``.npz`` file are (structures, atoms, …) where the model's read-out is of atoms.
    """

    units: Units = "auto"
    length_units: Literal["Angstrom", "Bohr"] = "Angstrom"
    labels: Literal["revised", "original"] = "revised"
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    virial_key: str | None = None
    dipole_key: str | None = None
    dipole_units: Literal["e*Angstrom", "Debye", "au"] = "e*Angstrom"
    dipole_origin: Literal["coordinates", "mass"] = "coordinates"
    polarizability_key: str | None = None
    polarizability_units: Literal["e2*Angstrom2/eV", "Angstrom3", "au"] = "e2*Angstrom2/eV"
    charges_key: str | None = None
    charge_key: str = "charge"
    readout_keys: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_stress(self) -> Self:
        if self.stress_key is not None and self.virial_key is not None:
            raise ValueError("give stress_key or virial_key, not both")
        return self
