"""What a calculator gives: properties, types, shapes, sums."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, all_properties

from ase_equivariant.testing.conformance.subject import ConformanceError, NotOffered, Subject, has_volume
from ase_equivariant.testing.differences import VOIGT_NAMES

_SHAPES = {
    "forces": ("n", 3), "stress": (6,), "stresses": ("n", 6), "energies": ("n",), "charges": ("n",), "magmoms": ("n",),
    "dipole": (3,),
}  # fmt: skip
_NEEDS_VOLUME = ("stress", "stresses")
_ALWAYS = ("energy", "free_energy", "energies", "forces", "stress", "stresses")  # settings decide about the others


def check_properties(subject: Subject) -> None:
    """``implemented_properties`` is a list with the energy, and energies, forces and stresses in it are given."""
    if "energy" not in subject.offered:
        raise ConformanceError(
            f"implemented_properties should name 'energy', it is {list(subject.offered)}: ASE asks it before it asks "
            "the calculator"
        )
    atoms = subject.atoms()
    for name in subject.offered:
        if name not in _ALWAYS or (name in _NEEDS_VOLUME and not (has_volume(atoms) and atoms.pbc.all())):
            continue
        try:
            found = atoms.calc.get_property(name, atoms)
        except PropertyNotImplementedError:
            found = None
        if found is None:
            raise ConformanceError(
                f"implemented_properties should name what there is, it names {name!r}, and there is none for "
                f"{atoms.symbols}: whoever looks there first gets an error in the middle of a run; leave it out"
            )


def check_absent_properties(subject: Subject) -> None:
    """What is not in ``implemented_properties`` is refused as ASE expects."""
    atoms = subject.atoms()
    for name in all_properties:
        if name in subject.offered:
            continue
        try:
            found = atoms.calc.get_property(name, atoms)
        except PropertyNotImplementedError:
            continue
        except Exception as error:
            raise ConformanceError(
                f"{name!r} is not offered, asked for it the calculator should raise PropertyNotImplementedError, it "
                f"raised {type(error).__name__}: ASE catches the former only, in trajectories and databases"
            ) from error
        raise ConformanceError(
            f"{name!r} is not in implemented_properties, yet asked for it the calculator gave {found!r:.60}: it should "
            "raise PropertyNotImplementedError, or the value is taken for a computed one"
        )


def check_energy_type(subject: Subject) -> None:
    """The energy is a number, not an array."""
    atoms = subject.atoms()
    _require_number("energy", atoms.calc.get_property("energy", atoms))


def check_free_energy(subject: Subject) -> None:
    """There is a free energy, a number, which is what forces derive from."""
    atoms = subject.atoms()
    try:
        found = atoms.get_potential_energy(force_consistent=True)
    except Exception as error:
        raise ConformanceError(
            f"get_potential_energy(force_consistent=True) should give 'free_energy', it raised {type(error).__name__}: "
            "optimizers with line searches and trajectories ask for it; set it to the energy if there is no other"
        ) from error
    _require_number("free_energy", found)


def check_arrays(subject: Subject) -> None:
    """Arrays are float numpy arrays of ASE's shapes, without NaN, and the magnetic moment of the whole is none."""
    atoms = subject.atoms()
    if "magmom" in subject.offered:
        with suppress(PropertyNotImplementedError):
            _require_number("magmom", atoms.calc.get_property("magmom", atoms))
    n, offered = len(atoms), offered_arrays(subject, atoms)
    for name in offered:
        try:
            found = atoms.calc.get_property(name, atoms)
        except PropertyNotImplementedError:
            continue  # check_properties speaks of it
        expected = tuple(n if length == "n" else length for length in _SHAPES[name])
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.shape != expected:
            kind = f"{type(found).__name__} {getattr(found, 'dtype', '')} {getattr(found, 'shape', '')}"
            raise ConformanceError(
                f"{name} should be a float numpy array of shape {expected}, it is {kind}: optimizers, filters and "
                "files compute with it as it comes"
            )
        if not np.isfinite(found).all():
            raise ConformanceError(f"{name} should be finite, it has NaN or infinity: a run would go on with them")
    if not offered:
        raise NotOffered("neither forces nor another array")


def check_atomic_energies(subject: Subject) -> None:
    """Atomic energies sum up to the energy."""
    if "energies" not in subject.offered:
        raise NotOffered("no atomic energies ('energies')")
    atoms = subject.atoms()
    energy = float(np.asarray(atoms.calc.get_property("energy", atoms)).item())
    total = float(np.sum(atoms.calc.get_property("energies", atoms)))
    if not abs(total - energy) <= 1e-5 * len(atoms) + 1e-5 * abs(energy):
        raise ConformanceError(
            f"energies should sum up to the energy {energy:.8g} eV, their sum is {total:.8g} eV: they are then not "
            "parts of it"
        )


def check_atomic_stresses(subject: Subject) -> None:
    """Atomic stresses sum up to the stress."""
    if not {"stress", "stresses"} <= {*subject.offered}:
        raise NotOffered("no atomic stresses ('stresses')")
    atoms = subject.atoms()
    if not (has_volume(atoms) and atoms.pbc.all()):
        raise NotOffered(f"{atoms.symbols} has no periodic cell: give a crystal to check the stress")
    stress, stresses = (np.asarray(atoms.calc.get_property(name, atoms)) for name in ("stress", "stresses"))
    if stress.shape != (6,) or stresses.shape != (len(atoms), 6):
        raise NotOffered(f"stress and stresses have the shapes {stress.shape} and {stresses.shape}, see arrays first")
    total = stresses.sum(axis=0)
    allowed = 1e-4 * float(np.abs(stresses).sum(axis=0).max()) + 1e-6  # rounding in float32
    if not (difference := np.abs(total - stress)).max() <= allowed:
        k = int(difference.argmax())
        raise ConformanceError(
            f"stresses should sum up to the stress, of {VOIGT_NAMES[k]} {stress[k]:.6g} eV/Å³, their sum is "
            f"{total[k]:.6g} eV/Å³: they are then not parts of it (is each divided by the volume of the whole cell?)"
        )


def offered_arrays(subject: Subject, atoms: Atoms) -> list[str]:
    """Names of the arrays that the calculator says to have, but for stresses where there is no volume."""
    periodic = has_volume(atoms) and atoms.pbc.all()
    return [name for name in subject.offered if name in _SHAPES and (periodic or name not in _NEEDS_VOLUME)]


def _require_number(name: str, found: object) -> None:
    if not isinstance(found, float | np.floating):
        shape = f" of shape {found.shape}" if hasattr(found, "shape") else ""
        raise ConformanceError(
            f"{name} should be a float, it is {type(found).__module__}.{type(found).__qualname__}{shape}: loggers "
            "format it, databases and trajectories store it as a number"
        )
    if not np.isfinite(found):
        raise ConformanceError(f"{name} should be finite, it is {found}")
