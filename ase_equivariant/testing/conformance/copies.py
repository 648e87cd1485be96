"""Copying, saving, sharing, and leaving the user's things alone."""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.constraints import FixAtoms
from ase.io import Trajectory
from ase.io.jsonio import encode
from ase.mep import NEB

from ase_equivariant.testing.conformance.changes import after, check_many_small_moves
from ase_equivariant.testing.conformance.subject import ConformanceError, NotOffered, Subject, differences
from ase_equivariant.testing.conformance.values import check_energy_type, offered_arrays


def check_pickle(subject: Subject) -> None:
    """A calculator goes through pickle, used or not."""
    _check_copy(subject, lambda calc: pickle.loads(pickle.dumps(calc)), "pickled", "multiprocessing and dask need it")


def check_deepcopy(subject: Subject) -> None:
    """``copy.deepcopy`` works, used or not."""
    _check_copy(subject, deepcopy, "deep-copied", "ensembles, NEB and basin hopping copy calculators")


def check_todict(subject: Subject) -> None:
    """``todict()`` gives settings that JSON can hold."""
    atoms = subject.atoms()
    subject.values(atoms)
    if (problem := _todict_problem(atoms.calc)) is not None:
        raise ConformanceError(
            f"todict() should give a dict that ASE can write as JSON, {problem}: ase.db and trajectories store it"
        )


def check_results_are_copies(subject: Subject) -> None:
    """Who changes the forces he got, or another array, changes no others."""
    atoms = subject.atoms()
    offered = offered_arrays(subject, atoms)
    if not offered:
        raise NotOffered("neither forces nor another array")
    for name in offered:
        try:
            found = atoms.calc.get_property(name, atoms)
        except PropertyNotImplementedError:
            continue  # check_properties speaks of it
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
            continue  # check_arrays speaks of it
        before = found.copy()
        if found.flags.writeable:
            found += 1.0
        elif name == "forces":
            raise ConformanceError("forces should be a writable array: constraints and optimizers change it")
        again = np.asarray(atoms.calc.get_property(name, atoms))
        if not np.abs(again - before).max(initial=0.0) < 0.5:  # it may have computed them again, to rounding
            raise ConformanceError(
                f"{name} changed by their user should leave the calculator's as they were, asked again it gave the "
                "changed ones: return copies, or a constraint or a filter spoils the next answer"
            )


def check_atoms_untouched(subject: Subject) -> None:
    """The user's Atoms are the same afterwards: arrays, momenta among them, cell, pbc, info, constraints.

    A slab and a molecule without a cell, too, which a calculator for crystals may be tempted to complete.
    """
    plain, slab, free = subject.plain(), subject.boxed(), subject.plain()
    slab.pbc = (True, True, False)
    free.pbc = False
    free.cell[:] = 0.0
    changed: list[str] = []
    for atoms, where in ((plain, ""), (slab, " (with pbc T T F)"), (free, " (with no cell)")):
        atoms.positions += 1.5 * atoms.cell.array.sum(axis=0)  # outside the cell
        atoms.set_momenta(np.random.default_rng(5).normal(size=(len(atoms), 3)))
        atoms.set_celldisp([0.1, 0.2, 0.3])
        atoms.info["note"] = {"kept": 1}
        atoms.set_tags(range(len(atoms)))
        atoms.set_constraint(FixAtoms([0]))
        before = atoms.copy()
        before.info = deepcopy(atoms.info)
        before.calc = atoms.calc = subject.make()
        try:
            subject.values(atoms)
        except Exception:  # a refusal, perhaps of what it changed itself, or what other checks speak of
            if atoms is plain:
                raise
        changed += [name + where for name in _changes(before, atoms) if name not in changed]
    if changed:
        raise ConformanceError(
            f"a calculation should leave the user's Atoms as they were, changed: {', '.join(changed)}; trajectories "
            "jump and integrators lose their positions"
        )


def _changes(before: Atoms, atoms: Atoms) -> list[str]:
    changed = [f"arrays[{name!r}] is gone" for name in before.arrays if name not in atoms.arrays]
    changed += [f"arrays[{name!r}] is new" for name in atoms.arrays if name not in before.arrays]
    common = (name for name in before.arrays if name in atoms.arrays)
    changed += [name for name in common if not np.array_equal(before.arrays[name], atoms.arrays[name])]
    changed += [name for name in ("cell", "pbc") if not np.array_equal(getattr(before, name), getattr(atoms, name))]
    if not np.array_equal(before.get_celldisp(), atoms.get_celldisp()):
        changed.append("celldisp")
    if atoms.info != before.info:
        changed.append("info")
    if [c.todict() for c in atoms.constraints] != [c.todict() for c in before.constraints]:
        changed.append("constraints")
    if atoms.calc is not before.calc:
        changed.append("calc")
    return changed


def check_shared_by_neb(subject: Subject) -> None:
    """Images of a NEB may share one calculator."""
    if "forces" not in subject.offered:
        raise NotOffered("no forces")
    after(check_energy_type, subject)
    after(check_many_small_moves, subject)
    images = [subject.plain() for _ in range(4)]
    images[-1].positions += 0.1 * np.random.default_rng(2).uniform(-1, 1, images[-1].positions.shape)
    band = NEB(images, allow_shared_calculator=True, method="improvedtangent")
    band.interpolate()
    shared = subject.make()
    for image in images:
        image.calc = shared
    for _ in range(2):
        try:
            band.get_forces()
            found = [subject.values(image) for image in images]
        except NotImplementedError:
            raise
        except Exception as error:
            raise ConformanceError(
                f"the images of a NEB should be able to share a calculator, the second one raised "
                f"{type(error).__name__}: {error}"
            ) from error
        for k, image in enumerate(images):
            if wrong := list(differences(found[k], subject.fresh(image))):
                raise ConformanceError(
                    f"images of a NEB that share a calculator should have their own results, image {k}: "
                    f"{'; '.join(wrong)}; results of another image are taken for its own"
                )
        for image in images[1:-1]:
            image.positions += 0.02


def check_trajectory(subject: Subject) -> None:
    """A trajectory holds energy, forces and stress, and gives them back."""
    atoms = subject.atoms()
    expected = subject.values(atoms)
    if (problem := _todict_problem(atoms.calc)) is not None:
        raise NotOffered(f"{problem}, see todict first")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "one.traj"
        try:
            with Trajectory(path, "w") as file:
                file.write(atoms)
            with Trajectory(path) as file:
                back = file[0]
        except Exception as error:
            raise ConformanceError(f"a trajectory should be written and read, it raised {_words(error)}") from error
        held = {} if back.calc is None else back.calc.results
    for name, value in expected.items():
        if name not in held:
            raise ConformanceError(
                f"a trajectory should hold the {name} that was computed, it has {sorted(held)}: does get_property take "
                "allow_calculation=False, and calculation_required say that nothing changed?"
            )
        if not np.allclose(held[name], value, rtol=1e-7, atol=1e-9):
            raise ConformanceError(f"{name} read from a trajectory should be what was written, it differs")


def _check_copy(subject: Subject, copy: Any, what: str, why: str) -> None:
    for used in (False, True):
        atoms, state = subject.atoms(), "used" if used else "new"
        if used:
            subject.values(atoms)
        try:
            duplicate = copy(atoms.calc)
        except Exception as error:
            raise ConformanceError(
                f"a {state} calculator should be {what}, it raised {_words(error)}; {why}"
            ) from error
        if duplicate is atoms.calc:
            raise ConformanceError(
                f"a {state} calculator that is {what} should be another one, it is the calculator itself; {why}, and "
                "threads and images would share its state"
            )
        expected = subject.values(atoms)
        atoms.calc = duplicate
        try:
            wrong = list(differences(subject.values(atoms), expected))
        except Exception as error:
            raise ConformanceError(
                f"a {state} calculator that is {what} should still compute, the copy raised {_words(error)}; {why}"
            ) from error
        if wrong:
            raise ConformanceError(
                f"a {state} calculator that is {what} should give the same, the copy differs: {'; '.join(wrong)}; {why}"
            )


def _todict_problem(calculator: Any) -> str | None:
    try:
        settings = calculator.todict()
        encode(settings)
    except Exception as error:
        return f"it raised {_words(error)}"
    return None if isinstance(settings, dict) else f"it gave {type(settings).__name__}"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]:.120}"
