"""How labels are kept in files."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from ase_equivariant.config import Config

Units = Literal["auto", "eV", "kcal/mol", "kJ/mol", "Hartree"]
Files = str | tuple[str, ...]


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
        Names in ``atoms.info`` and ``atoms.arrays``; default the calculator's results.
    virial_key : str or None
        Name of a virial in eV, taken as stress −virial/volume.
    """

    units: Units = "auto"
    length_units: Literal["Angstrom", "Bohr"] = "Angstrom"
    labels: Literal["revised", "original"] = "revised"
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    virial_key: str | None = None

    @model_validator(mode="after")
    def _one_stress(self) -> Self:
        if self.stress_key is not None and self.virial_key is not None:
            raise ValueError("give stress_key or virial_key, not both")
        return self
