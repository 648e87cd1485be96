"""Labels in the units of files to eV and Å."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ase.units import Bohr, Hartree, kcal, kJ, mol

from ase_equivariant.training.frames import Frame
from ase_equivariant.training.labels import LabelConfig

_ENERGY_UNITS = {"eV": 1.0, "kcal/mol": kcal / mol, "kJ/mol": kJ / mol, "Hartree": Hartree}
_LENGTH_UNITS = {"Angstrom": 1.0, "Bohr": Bohr}


def energy_unit(path: Path, config: LabelConfig) -> str:
    """Unit of the energies of a file, "auto" decided."""
    return ("kcal/mol" if path.suffix == ".npz" else "eV") if config.units == "auto" else config.units


def convert_units(frame: Frame, path: Path, config: LabelConfig) -> Frame:
    """Structure, energy, forces and stress of a file in eV and Å; other read-outs as they are."""
    energy, length = _ENERGY_UNITS[energy_unit(path, config)], _LENGTH_UNITS[config.length_units]
    if energy == length == 1.0:
        return frame
    atoms = frame.atoms.copy()
    atoms.set_cell(atoms.cell * length, scale_atoms=False)
    atoms.positions *= length
    return replace(
        frame,
        atoms=atoms,
        energy=None if frame.energy is None else frame.energy * energy,
        forces=None if frame.forces is None else frame.forces * (energy / length),
        stress=None if frame.stress is None else frame.stress * (energy / length**3),
    )
