"""Calculators with one fault each, and the check that should find it."""

from __future__ import annotations

import numpy as np
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones


class Spoilt(LennardJones):
    """Lennard-Jones with its results changed by ``spoil``."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.spoil(self.results)

    def spoil(self, results):
        raise NotImplementedError


def spoilt(change):
    return type("Spoilt", (Spoilt,), {"spoil": lambda self, results: change(results)})


def stress_times(factor):
    def change(results):
        for name in {"stress", "stresses"} & {*results}:
            results[name] = results[name] * factor

    return spoilt(change)


def all_forces_zero_but(num_kept):
    """Those kept are the largest."""

    def change(results):
        order = np.argsort(np.abs(results["forces"]).max(axis=1))
        results["forces"][order[: len(order) - num_kept]] = 0.0

    return spoilt(change)


def reordered(results):
    for name in {"stress", "stresses"} & {*results}:
        results[name] = results[name][..., [0, 1, 2, 5, 4, 3]]


def blind_to(kind):
    """EMT whose energy also depends on initial moments and charges, and which misses one kind of change."""

    class Blind(EMT):
        def check_state(self, atoms, tol=1e-15):
            first = self.atoms is None or len(atoms) != len(self.atoms)
            return [change for change in super().check_state(atoms, tol) if first or change != kind]

        def calculate(self, atoms=None, properties=("energy",), system_changes=("numbers",)):
            super().calculate(atoms, properties, system_changes)
            extra = self.atoms.get_initial_magnetic_moments().sum() + self.atoms.get_initial_charges().sum()
            for name in ("energy", "free_energy"):
                self.results[name] += extra
            self.results["energies"] = self.results["energies"] + extra / len(self.atoms)

    return Blind


class OldLength(LennardJones):
    """Keeps the results of the last structure but for those with as many atoms or more."""

    def check_state(self, atoms, tol=1e-15):
        if self.atoms is not None and len(atoms) == len(self.atoms) - 1:
            return []
        return super().check_state(atoms, tol)

    def get_property(self, name, atoms=None, allow_calculation=True):
        found = super().get_property(name, atoms, allow_calculation)
        return found[: len(atoms)] if name in ("forces", "energies") else found


class Lagging(EMT):
    """Thinks that small moves since the last call need no calculation."""

    def check_state(self, atoms, tol=1e-15):
        changes = super().check_state(atoms, tol)
        seen, self.seen = getattr(self, "seen", None), atoms.positions.copy()
        near = seen is not None and seen.shape == self.seen.shape and np.abs(seen - self.seen).max() < 0.03
        return [] if near and changes == ["positions"] else changes


def coarse(kind):
    """EMT that takes small changes of one kind for none."""

    class Coarse(EMT):
        def check_state(self, atoms, tol=1e-15):
            large = super().check_state(atoms, 1e-2)
            return [change for change in super().check_state(atoms, tol) if change != kind or change in large]

    return Coarse


class NoPickle(LennardJones):
    def __reduce_ex__(self, protocol):
        raise TypeError("holds a device")

    def __deepcopy__(self, memo):
        return type(self)()


class NoDeepcopy(LennardJones):
    def __deepcopy__(self, memo):
        raise TypeError("holds a device")


class OneOnly(LennardJones):
    """Cannot be told from its copies."""

    def __deepcopy__(self, memo):
        return self


class ForgetsCutoff(LennardJones):
    """A copy has other settings."""

    def __deepcopy__(self, memo):
        return type(self)(epsilon=2.0)


class Unwritable(LennardJones):
    def todict(self, skip_default=True):
        return {"device": object()}


class Lends(LennardJones):
    """Gives its own arrays away."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        found = super().get_property(name, atoms, allow_calculation)
        return self.results[name] if found is not None else None


def lends(name):
    """Gives one of its arrays away."""

    class LendsOne(LennardJones):
        def get_property(self, asked, atoms=None, allow_calculation=True):
            found = super().get_property(asked, atoms, allow_calculation)
            return self.results[asked] if asked == name and found is not None else found

    return LendsOne


def sets(change):
    """Does something to the user's atoms."""

    class Sets(LennardJones):
        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            super().calculate(atoms, properties, system_changes)
            change(atoms)

    return Sets


class Wraps(LennardJones):
    """Moves the user's atoms into the cell."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        atoms.wrap()


class Labels(LennardJones):
    """Leaves an array with the user's atoms."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        atoms.info["energy"] = self.results["energy"]


def completes(change):
    """Does something to the user's atoms before it computes a copy of them as they were."""

    class Completes(LennardJones):
        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            super().calculate(atoms.copy(), properties, system_changes)
            change(atoms)

    return Completes


class Sorts(LennardJones):
    """Answers in the order of a code that sorts atoms by element."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms[np.argsort(atoms.numbers, kind="stable")], properties, system_changes)
        self.atoms = atoms.copy()


def by_question(spoils):
    """Forces are zero if ``spoils`` says so of the properties that a calculation is for."""

    class ByQuestion(LennardJones):
        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            super().calculate(atoms, properties, system_changes)
            if spoils(properties):
                self.results["forces"][:] = 0.0

    return ByQuestion


def unwrapped(component):
    """Takes crystals only, and is wrong about atoms on one side of the cell."""

    class Unwrapped(LennardJones):
        def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
            if atoms.pbc.any() and not atoms.pbc.all():
                raise NotImplementedError("slabs")
            super().calculate(atoms, properties, system_changes)
            if atoms.pbc.all() and component(atoms.get_scaled_positions(wrap=False)):
                self.results["energy"] += 5.0

    return Unwrapped


class MomentOfAtoms(LennardJones):
    """Gives moments of atoms for that of the whole."""

    implemented_properties = [*LennardJones.implemented_properties, "magmom"]  # noqa: RUF012

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["magmom"] = np.zeros(len(self.atoms))


class OneImage(LennardJones):
    """Refuses a second Atoms object, unless it was reset by hand."""

    owner = None

    def get_property(self, name, atoms=None, allow_calculation=True):
        if self.owner is not None and self.owner is not atoms:
            raise RuntimeError("this calculator belongs to other atoms")
        found = super().get_property(name, atoms, allow_calculation)
        self.owner = atoms
        return found

    def reset(self):
        self.owner = None
        super().reset()

    def __getstate__(self):
        return {**self.__dict__, "owner": None}


class AlwaysRecomputes(LennardJones):
    """Says that it has nothing whenever it may not compute."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        return super().get_property(name, atoms) if allow_calculation else None


class AllPeriodic(EMT):
    """Takes a cell that is periodic somewhere for periodic everywhere."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        periodic = atoms.copy()
        periodic.pbc = atoms.pbc.any()
        super().calculate(periodic, properties, system_changes)
        self.atoms = atoms.copy()


class NeedsNeighbours(LennardJones):
    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        if len(atoms) == 1:
            raise IndexError("index 0 is out of bounds for axis 0 with size 0")
        super().calculate(atoms, properties, system_changes)


class NoFreeEnergy(LennardJones):
    implemented_properties = [name for name in LennardJones.implemented_properties if name != "free_energy"]  # noqa: RUF012


class Promises(LennardJones):
    """Names a property that it does not have."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results.pop("stresses", None)


class Invents(LennardJones):
    """Gives zeros for what it does not know."""

    def get_property(self, name, atoms=None, allow_calculation=True):
        return np.zeros(3) if name == "dipole" else super().get_property(name, atoms, allow_calculation)


FAULTS = {
    "energy is an array": (spoilt(lambda r: r.update(energy=np.array([r["energy"]]))), "energy_type"),
    "free energy is an array": (spoilt(lambda r: r.update(free_energy=np.array([r["energy"]]))), "free_energy"),
    "no free energy": (NoFreeEnergy, "free_energy"),
    "a property promised only": (Promises, "properties"),
    "a property invented": (Invents, "absent_properties"),
    "forces are lists": (spoilt(lambda r: r.update(energies=list(r["energies"]))), "arrays"),
    "stress is a matrix": (spoilt(lambda r: r.update(stresses=np.zeros((4, 3, 3)))), "arrays"),
    "energies of another zero": (spoilt(lambda r: r.update(energies=r["energies"] + 1.0)), "atomic_energies"),
    "stresses of nothing": (spoilt(lambda r: r.update(stresses=np.full((4, 6), 42.0))), "atomic_stresses"),
    "one moment for each atom": (MomentOfAtoms, "arrays"),
    "forces are gradients": (spoilt(lambda r: r.update(forces=-r["forces"])), "forces"),
    "forces in kcal/mol/Å": (spoilt(lambda r: r.update(forces=23.0605 * r["forces"])), "forces"),
    "all forces but two zero": (all_forces_zero_but(2), "forces"),
    "the smallest force zero": (all_forces_zero_but(3), "forces"),
    "forces of sorted atoms": (Sorts, "forces"),
    "stress of the wrong sign": (stress_times(-1.0), "stress_sign"),
    "stress in the wrong order": (spoilt(reordered), "stress_order"),
    "stress in GPa": (stress_times(160.2177), "stress_unit"),
    "shears doubled": (stress_times(np.array([1, 1, 1, 2, 2, 2.0])), "stress_is_derivative"),
    **{f"blind to {kind}": (blind_to(kind), f"{kind}_change")
       for kind in ("positions", "cell", "numbers", "pbc", "initial_magmoms", "initial_charges")},
    "blind to an atom's removal": (OldLength, "number_of_atoms_change"),
    "a lagging threshold": (Lagging, "many_small_moves"),
    "tiny moves unnoticed": (coarse("positions"), "many_small_moves"),
    "tiny strains unnoticed": (coarse("cell"), "cell_change"),
    "forces with forces only": (by_question(lambda names: "forces" not in names), "order_of_questions"),
    "no forces with stress": (by_question(lambda names: "stress" in names), "order_of_questions"),
    "not picklable": (NoPickle, "pickle"),
    "not to be copied": (NoDeepcopy, "deepcopy"),
    "copies that are none": (OneOnly, "deepcopy"),
    "copies of other settings": (ForgetsCutoff, "deepcopy"),
    "settings that are no JSON": (Unwritable, "todict"),
    "results lent": (Lends, "results_are_copies"),
    **{f"{name} lent": (lends(name), "results_are_copies") for name in ("stress", "energies")},
    "atoms stopped": (sets(lambda atoms: "momenta" in atoms.arrays and atoms.arrays["momenta"].fill(0.0)),
                      "atoms_untouched"),
    "the cell displaced": (sets(lambda atoms: atoms.set_celldisp([1.0, 0, 0])), "atoms_untouched"),
    "atoms sorted": (completes(lambda atoms: atoms.numbers.sort()), "atoms_untouched"),
    "atoms made periodic": (completes(lambda atoms: atoms.set_pbc(True)), "atoms_untouched"),
    "molecules boxed": (completes(lambda atoms: None if atoms.pbc.any() else atoms.center(vacuum=5.0)),
                        "atoms_untouched"),
    "a cell added": (completes(lambda atoms: None if atoms.cell.rank else atoms.set_cell([30.0, 30.0, 30.0])),
                     "atoms_untouched"),
    "atoms wrapped": (Wraps, "atoms_untouched"),
    "atoms labelled": (Labels, "atoms_untouched"),
    "one Atoms object only": (OneImage, "shared_by_neb"),
    "results that trajectories miss": (AlwaysRecomputes, "trajectory"),
    "periodic everywhere": (AllPeriodic, "mixed_pbc"),
    "wrong beyond the cell": (unwrapped(lambda x: x.max() > 1.1), "atoms_outside_the_cell"),
    "wrong before the cell": (unwrapped(lambda x: x.min() < -0.1), "atoms_outside_the_cell"),
    "no atom alone": (NeedsNeighbours, "isolated_atom"),
}  # fmt: skip
