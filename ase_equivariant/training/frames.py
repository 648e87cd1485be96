"""Labelled structures, as read from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class Label:
    """Value of one read-out: (…) of a structure or (N, …) of its atoms."""

    values: np.ndarray
    per_atom: bool


@dataclass(frozen=True)
class Frame:
    """One structure with its reference labels; a missing label is None.

    Attributes
    ----------
    atoms : ase.Atoms
        The structure, without a calculator.
    energy : float or None
        eV.
    forces : ndarray or None
        (N, 3) eV/Å.
    stress : ndarray or None
        (3, 3) eV/Å³, tensile positive.
    readouts : mapping
        Labels of other read-outs by name: dipole in e·Å (of an ion about its centre of mass), polarizability in
        e²·Å²/eV, charges and Born effective charges in e, and the user's own.
    """

    atoms: Atoms
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    readouts: Mapping[str, Label] = field(default_factory=dict)

    @property
    def is_isolated_atom(self) -> bool:
        """Whether this is a single atom without periodic images."""
        return len(self.atoms) == 1 and not self.atoms.pbc.any()

    def rotated(self, rotation: np.ndarray) -> Frame:
        """The frame, its cell and its labels turned by a rotation matrix (3, 3).

        Raises
        ------
        ValueError
            If there are labels of the user's own, whose transformation a frame does not know.
        """
        atoms = self.atoms.copy()
        atoms.set_cell(atoms.cell.array @ rotation.T)
        atoms.positions = atoms.positions @ rotation.T
        forces = None if self.forces is None else self.forces @ rotation.T
        stress = None if self.stress is None else rotation @ self.stress @ rotation.T
        readouts = {name: _turned(name, label, rotation) for name, label in self.readouts.items()}
        return replace(self, atoms=atoms, forces=forces, stress=stress, readouts=readouts)


_CARTESIAN_INDICES = {"charges": 0, "dipole": 1, "polarizability": 2, "born_effective_charges": 2}


def _turned(name: str, label: Label, rotation: np.ndarray) -> Label:
    if name not in _CARTESIAN_INDICES:
        raise ValueError(
            f"a frame with labels {name!r} cannot be turned: only {', '.join(_CARTESIAN_INDICES)} are known"
        )
    values = label.values
    for axis in range(-_CARTESIAN_INDICES[name], 0):
        values = np.moveaxis(np.tensordot(values, rotation, (axis, 1)), -1, axis)
    return replace(label, values=values)


def bare_structure(atoms: Atoms, charge_key: str, labels: Iterable[str] = ()) -> Atoms:
    """Species, positions, cell, pbc, charge and short notes; a direction without a lattice vector is not periodic.

    Labels are no notes: a note would keep its unit. The charge is what ``charge_key`` names, and nothing else.
    """
    pbc = atoms.pbc & atoms.cell.any(1)
    kept = {key: value for key, value in atoms.info.items() if isinstance(value, str | int | float | np.generic)}
    notes = {key: value.item() if isinstance(value, np.generic) else value for key, value in kept.items()}
    for key in (*labels, "charge"):
        notes.pop(key, None)
    if charge_key in atoms.info:
        charge = atoms.info[charge_key]
        notes["charge"] = charge.item() if isinstance(charge, np.generic) else charge
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=pbc, info=notes)
