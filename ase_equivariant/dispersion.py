"""London dispersion on top of a potential that was trained without it: DFT-D3."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree

from ase_equivariant.config import Config

_MAX_NUMBER = 103  # D3's reference coordination numbers end at Lr; the library is silent beyond
# Bohr. Ends of the library's sums; it ends them abruptly, so that the energy of a crystal jumps when neighbours cross
# the end, and its derivative is not the stress. Here the last Bohr is switched off smoothly: about 1e-5 eV/atom.
_CUTOFFS = {"disp2": 60.0, "disp3": 40.0, "cn": 40.0, "width2": 1.0, "width3": 1.0}
_MARGIN = 0.5  # Å from the outermost atoms of slabs and wires to the ends of the box that the library is given
# As people write it: PBE-D3, PBE+D3BJ, B3LYP_D3(0), B97D3, DFT-D, ωB97X-D, ωB97M-V, B97-3c, PBE+vdW-TS … Too much found
# is a message with a cure, too little is dispersion twice.
_INCLUDES_DISPERSION = re.compile(
    r"(?<![A-Z0-9])(D[234](?!\d)|(MBD|TS|XDM|r?VV10|MP2|RPA)(?![A-Z0-9]))"
    r"|((?-i:GD)|DFTD|PBED|LYPD|B97X?D)[234]|B97X?D\b|[-+]D\b|-V\b|-3c\b|dDsC|CCSD"
    r"|vdW|van[ -]der[ -]Waals|dispersion|Tkatchenko|Grimme",
    re.IGNORECASE,
)
_DENIES_DISPERSION = re.compile(r"\b(no|without|excluding)( any)? (dispersion|van der Waals)", re.IGNORECASE)


class D3Settings(Config):
    """Which D3.

    Attributes
    ----------
    functional : str
        Density functional whose lack of dispersion is made up for, such as "PBE".
    damping : {"bj", "zero"}
        Rational (Becke-Johnson) damping or the original zero damping.
    three_body : bool
        Whether to add the Axilrod-Teller-Muto term.
    """

    functional: str
    damping: Literal["bj", "zero"] = "bj"
    three_body: bool = False


class DispersionError(ValueError):
    """A correction that would be wrong or is not defined; the message says why."""


def functional_of(level_of_theory: str) -> str:
    """The density functional that a level of theory such as "PBE(+U), Materials Project settings" names.

    Raises
    ------
    DispersionError
        If it names none, or accounts for dispersion already.
    """
    cure = "choose with dispersion={'functional': 'PBE'} (and 'damping', 'three_body') if you want it all the same"
    if _INCLUDES_DISPERSION.search(_DENIES_DISPERSION.sub("", level_of_theory)):
        raise DispersionError(
            f"the model's level of theory, {level_of_theory}, accounts for dispersion already; {cure}"
        )
    found = re.match(r"[A-Za-z0-9ωΩ-]+", level_of_theory.strip())
    if found is None or level_of_theory.startswith("not stated"):
        raise DispersionError(f"the model's level of theory is {level_of_theory!r}, which names no functional; {cure}")
    return found.group()


class D3:
    """DFT-D3 energy, forces and stress of a structure.

    ``E = −½ Σ_ij Σ_{n=6,8} s_n C_n(CN_i, CN_j) / r_ij^n · damping``; the coefficients depend on
    coordination numbers, so that everything hangs together and derivatives come from the
    library as a whole. Holds settings only and can be copied and pickled.

    Parameters
    ----------
    settings : D3Settings
        Which D3.

    Raises
    ------
    ImportError
        If the package ``dftd3`` is not installed.
    DispersionError
        If there are no parameters for the functional and damping.

    References
    ----------
    Grimme et al., J. Chem. Phys. 132, 154104 (2010), doi:10.1063/1.3382344; Grimme, Ehrlich, Goerigk,
    J. Comput. Chem. 32, 1456 (2011), doi:10.1002/jcc.21759; Ehlert, J. Open Source Softw. 9, 7169 (2024).
    """

    def __init__(self, settings: D3Settings):
        self.settings = settings
        try:
            self._damping(_library())
        except RuntimeError:
            raise DispersionError(
                f"D3 with {settings.damping!r} damping has no parameters for the functional {settings.functional!r}"
            ) from None

    def add_to(self, results: dict[str, Any], atoms: Atoms) -> dict[str, Any]:
        """``results`` of an ASE calculator with D3 in energy, free energy, energies, forces and stress.

        Per-atom stresses are left out: D3's virial is not shared out to atoms.
        """
        energies, forces, virial = self._evaluate(atoms)
        added = {name: value for name, value in results.items() if name != "stresses"}
        added["energies"] = results["energies"] + energies
        added["energy"] = added["free_energy"] = float(added["energies"].sum())
        added["forces"] = results["forces"] + forces
        if "stress" in results:
            added["stress"] = results["stress"] + full_3x3_to_voigt_6_stress(virial / atoms.get_volume())
        return added

    def _evaluate(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies (N,) eV, forces (N, 3) eV/Å, and dE/dε (3, 3) eV."""
        beyond = sorted({symbol for symbol, z in zip(atoms.symbols, atoms.numbers, strict=True) if z > _MAX_NUMBER})
        if beyond:
            raise DispersionError(f"D3 is not defined for {', '.join(beyond)}: it ends at Lr")
        if len(atoms) == 0:
            return np.zeros(0), np.zeros((0, 3)), np.zeros((3, 3))
        library = _library()
        positions, lattice, periodic = atoms.positions, None, None
        if atoms.pbc.any():
            positions, cell, periodic = _boxed(atoms)
            lattice = cell / Bohr
        damping = self._damping(library)
        try:
            model = library.DispersionModel(atoms.numbers, positions / Bohr, lattice, periodic)
            model.set_realspace_cutoff(**_CUTOFFS)
            found, pairs = model.get_dispersion(damping, grad=True), model.get_pairwise_dispersion(damping)
        except RuntimeError as error:
            raise DispersionError(
                f"D3 cannot be computed for {atoms.symbols}: {' '.join(str(error).split())}"
            ) from None
        pairwise = pairs["additive pairwise energy"] + pairs["non-additive pairwise energy"]
        virial = 0.5 * (found["virial"] + found["virial"].T) * Hartree
        return pairwise.sum(axis=1) * Hartree, -found["gradient"] * (Hartree / Bohr), virial

    def _damping(self, library: Any) -> Any:
        kinds = {"bj": library.RationalDampingParam, "zero": library.ZeroDampingParam}
        return kinds[self.settings.damping](method=self.settings.functional, atm=self.settings.three_body)


def make_d3(dispersion: str | dict[str, Any] | D3Settings, level_of_theory: str | None) -> D3:
    """D3 as a user asks for it: ``"d3"`` for the model's own functional, or settings.

    Parameters
    ----------
    dispersion : "d3", dict or D3Settings
        With settings, nothing is concluded from the level of theory.
    level_of_theory : str or None
        Of the model; None if not known.

    Raises
    ------
    ValueError
        For another word, or settings that make no sense.
    """
    if isinstance(dispersion, D3Settings):
        return D3(dispersion)
    if isinstance(dispersion, dict):
        return D3(D3Settings.parse(dispersion))
    if dispersion != "d3":
        raise ValueError(
            f"dispersion {dispersion!r} is not known: choose 'd3' or settings such as {{'functional': 'PBE'}}"
        )
    return D3(D3Settings(functional=functional_of(level_of_theory or "not stated")))


def _boxed(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (N, 3) and cell (3, 3) in Å, and pbc (3,), by which the library sees slabs and wires as they are.

    It folds atoms into the cell along directions that are not periodic as well, so that those cell vectors, which
    should mean nothing, may be zero, parallel to others or too short, decide; and it misses images where a direction
    that is not periodic comes before one that is. Here the periodic vectors come first, the others are normal to them
    and longer than the structure, and the atoms lie between their ends.
    """
    positions, lattice = atoms.positions.copy(), atoms.cell.array[atoms.pbc]
    if len(lattice) == 3:
        return positions, lattice, atoms.pbc
    normals = np.linalg.svd(lattice)[2][len(lattice) :]
    heights = positions @ normals.T
    positions += (_MARGIN - heights.min(axis=0)) @ normals
    others = (np.ptp(heights, axis=0) + 2 * _MARGIN)[:, None] * normals
    return positions, np.concatenate([lattice, others]), np.arange(3) < len(lattice)


def _library() -> Any:
    try:
        return import_module("dftd3.interface")
    except ImportError as error:
        raise ImportError(
            f"dispersion needs the package dftd3 ({error}): install it with pip install 'ase-equivariant[d3]'"
        ) from None
