"""Cells periodic in some directions, and atoms on their own."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from ase_equivariant.testing.conformance.subject import ConformanceError, NotOffered, Subject, Values, differences


def check_atoms_outside_the_cell(subject: Subject) -> None:
    """In a crystal an atom may be replaced by any of its images: MD does not wrap."""
    crystal = subject.boxed()
    crystal.pbc = True
    expected = _values(subject, crystal)
    for axis, fractions in enumerate(crystal.get_scaled_positions(wrap=False).T):
        for sign in (1, -1):
            shifted = crystal.copy()
            shifted.positions[(sign * fractions).argmax()] += sign * crystal.cell[axis]
            if wrong := list(differences(_values(subject, shifted), expected)):
                raise ConformanceError(
                    f"with pbc T T T nothing should change when an atom moves by {'+-'[sign < 0]}1 times cell vector "
                    f"{axis}: {'; '.join(wrong)}; MD goes wrong as soon as an atom leaves the cell"
                )


def check_mixed_pbc(subject: Subject) -> None:
    """A cell vector that is not periodic decides nothing; one that is may be added to any atom."""
    for axis in range(3):
        slab = subject.boxed()
        slab.pbc = [k != axis for k in range(3)]
        long, shifted = slab.copy(), slab.copy()
        long.cell[axis] *= 3.0
        shifted.positions[0] += slab.cell[(axis + 1) % 3]
        expected = _values(subject, slab)
        names = " ".join("FT"[int(p)] for p in slab.pbc)
        for other, what in ((long, f"cell vector {axis} is made longer"), (shifted, "an atom moves by a periodic one")):
            if wrong := list(differences(_values(subject, other), expected)):
                raise ConformanceError(
                    f"with pbc {names} nothing should change when {what}: {'; '.join(wrong)}; slabs and wires see "
                    "images that are not there, or miss some that are"
                )


def check_isolated_atom(subject: Subject) -> None:
    """An atom alone has an energy and no force."""
    for symbol in dict.fromkeys(subject.plain().symbols):
        atom = Atoms(symbol, positions=[[0.1, 0.2, 0.3]])
        try:
            values = _values(subject, atom)
        except (NotImplementedError, NotOffered):
            raise
        except Exception as error:
            raise ConformanceError(
                f"an atom of {symbol} without a cell should have an energy, the calculator raised "
                f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]:.120}; atomization energies need it"
            ) from error
        if not np.isfinite(values["energy"]):
            raise ConformanceError(f"an atom of {symbol} should have a finite energy, it is {values['energy']}")
        force = values.get("forces", np.zeros((1, 3)))
        if force.shape != (1, 3) or not np.abs(force).max() <= 1e-4:
            raise ConformanceError(f"an atom of {symbol} alone should feel forces [[0, 0, 0]], found {force.tolist()}")


def _values(subject: Subject, atoms: Atoms) -> Values:
    values = {name: subject.ask(name, atoms) for name in subject.names(atoms)}
    values["energy"] = values["energy"].squeeze()
    return values
