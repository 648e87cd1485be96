"""Phonons of crystals by finite displacements, with phonopy (an optional dependency)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.dft.kpoints import BandPath

_MIN_LENGTH_A = 10.0
_SYMMETRY_A, _NEARLY_A = 1e-5, 0.1  # phonopy's tolerance; what is more symmetric to this may relax to it
_LATTICE = 2e-4  # ASE's tolerance for lattices
_QUIET = {"show_drift": False}


@dataclass(frozen=True)
class PhononResult:
    """Harmonic vibrations of a crystal; imaginary frequencies are negative.

    Attributes
    ----------
    supercell : tuple of 3 int
        In which atoms were displaced.
    gamma_THz : ndarray
        (3 N,) frequencies at Γ, of the N atoms of the primitive cell, ascending.
    special_THz : dict of str to ndarray
        (3 N,) by special point of the band path.
    path, bands_THz : ndarray
        (points,) position along the band path in 1/Å, and (points, 3 N) frequencies.
    tick_positions, tick_labels : ndarray, list of str
        Special points along the path.
    dos_THz, dos_per_THz : ndarray
        (n,) frequencies and density of states; its integral is 3 N.
    temperature_K : ndarray
        (t,) of what follows, by primitive cell.
    free_energy_eV, entropy_eV_per_K, heat_capacity_eV_per_K : ndarray
        (t,) Helmholtz free energy of the vibrations with their zero-point energy, entropy, heat capacity C_V.
    """

    supercell: tuple[int, int, int]
    gamma_THz: np.ndarray
    special_THz: dict[str, np.ndarray]
    path: np.ndarray
    bands_THz: np.ndarray
    tick_positions: np.ndarray
    tick_labels: list[str]
    dos_THz: np.ndarray
    dos_per_THz: np.ndarray
    temperature_K: np.ndarray
    free_energy_eV: np.ndarray
    entropy_eV_per_K: np.ndarray
    heat_capacity_eV_per_K: np.ndarray

    @property
    def lowest_THz(self) -> float:
        """Lowest frequency along the path: clearly negative means that the crystal is not at a minimum."""
        return float(self.bands_THz.min())


def phonons(
    atoms: Atoms,
    supercell: Sequence[int] | None = None,
    *,
    displacement_A: float = 0.01,
    path: str | None = None,
    points: int = 200,
    mesh: float = 100.0,
    temperatures_K: Sequence[float] = tuple(range(0, 1001, 50)),
) -> PhononResult:
    """Band structure, density of states and thermal properties of a relaxed crystal.

    Parameters
    ----------
    atoms : Atoms
        Unit cell, relaxed, with a calculator (float64); not changed. Where atoms of an element differ in mass, bands
        are those of this cell, otherwise those of the primitive cell.
    supercell : sequence of 3 int, optional
        Repetitions of it; default the smallest whose opposite faces are 10 Å apart.
    displacement_A : float
        Of one atom at a time.
    path : str, optional
        Band path in ASE's notation, such as "GXWKGL"; default that of the lattice.
    points : int
        Along the path.
    mesh : float
        Å, resolution of the mesh of the density of states (phonopy's length).
    temperatures_K : sequence of float
        Of the thermal properties.

    Raises
    ------
    ImportError
        If phonopy is not installed.
    ValueError
        If the atoms are no crystal with a calculator or not relaxed, whatever their constraints, or the path is none.

    References
    ----------
    Togo, J. Phys. Soc. Jpn. 92, 012001 (2023).
    """
    check_phonons(atoms, supercell, displacement_A)
    repeats = tuple(int(n) for n in supercell) if supercell is not None else default_supercell(atoms)
    solver = _undisplaced(atoms, repeats, displacement_A)
    band = _band_path(Cell(solver.primitive.cell), path, points)
    _find_force_constants(solver, atoms, displacement_A)
    axis, ticks, labels = band.get_linear_kpoint_axis()
    special = {name: _at(solver, [q])[0] for name, q in band.special_points.items()}
    gamma = special["G"] if "G" in special else _at(solver, [np.zeros(3)])[0]
    # Symmetry is that of the elements, which isotopes may break.
    solver.run_mesh(mesh, is_mesh_symmetry=not _has_isotopes(atoms))
    dos = solver.run_total_dos()
    thermal = solver.run_thermal_properties(
        temperatures=np.asarray(temperatures_K, dtype=float), exclude_gamma_acoustic=True
    )
    units_of = import_module("phonopy.physical_units").get_physical_units()
    joule = units_of.EvTokJmol * 1000  # J/mol of 1 eV
    return PhononResult(
        (repeats[0], repeats[1], repeats[2]),
        gamma,
        special,
        axis,
        _at(solver, band.kpts),
        ticks,
        labels,
        np.array(dos.frequency_points),
        np.array(dos.dos),
        np.array(thermal.temperatures),
        np.array(thermal.free_energy) / units_of.EvTokJmol,
        np.array(thermal.entropy) / joule,
        np.array(thermal.heat_capacity) / joule,
    )


def check_phonons(
    atoms: Atoms, supercell: Sequence[int] | None = None, displacement_A: float = 0.01, path: str | None = None
) -> None:
    """Refuse arguments of :func:`phonons` that are wrong for a crystal already before it is relaxed.

    Which band paths there are depends on the lattice. Relaxing keeps its symmetry, but may add some: the path is looked
    at where the crystal is not nearly more symmetric than it is.

    Raises
    ------
    ImportError, ValueError
        As there.
    """
    if find_spec("phonopy") is None:
        raise ImportError("phonons need phonopy: pip install 'ase-equivariant[phonons]'")
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise ValueError("phonons need a crystal, periodic in all directions")
    if supercell is not None and (len(supercell) != 3 or min(supercell) < 1):
        raise ValueError(f"supercell = {tuple(supercell)}: use three numbers > 0")
    if not displacement_A > 0:
        raise ValueError(f"displacement_A = {displacement_A}: use a distance > 0")
    if path is not None:
        primitive, nearly = (_primitive_cell(atoms, tolerance) for tolerance in (_SYMMETRY_A, _NEARLY_A))
        lattice, other = primitive.get_bravais_lattice(eps=_LATTICE), nearly.get_bravais_lattice(eps=_NEARLY_A)
        if lattice.name == other.name and np.isclose(primitive.volume, nearly.volume):
            _band_path(primitive, path, points=0)


def default_supercell(atoms: Atoms) -> tuple[int, int, int]:
    """Repetitions that put opposite faces at least 10 Å apart; long edges of a flat cell do not keep images away."""
    heights = 1 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)  # V / |b × c| …
    a, b, c = (max(1, int(np.ceil(_MIN_LENGTH_A / height - 1e-9))) for height in heights)
    return a, b, c


def _has_isotopes(atoms: Atoms) -> bool:
    """Whether atoms of one element differ in mass."""
    masses = atoms.get_masses()
    return any(np.ptp(masses[atoms.numbers == number]) > 1e-6 for number in np.unique(atoms.numbers))


def _undisplaced(atoms: Atoms, repeats: tuple[int, ...], displacement_A: float) -> Any:
    """A phonopy object of a crystal that is fit for it."""
    if atoms.calc is None:
        raise ValueError("the atoms have no calculator: set atoms.calc first")
    largest = np.abs(atoms.get_forces(apply_constraint=False)).max()  # displaced atoms have no constraints
    if largest > 0.01:
        raise ValueError(
            f"a force of {largest:.3g} eV/Å is left: relax the crystal first, to 0.001 eV/Å or better, all atoms free"
        )
    unit_cell = _unit_cell(atoms)
    return import_module("phonopy").Phonopy(unit_cell, np.diag(repeats), primitive_matrix=_primitive(atoms, unit_cell))


def _unit_cell(atoms: Atoms) -> Any:
    """The crystal as phonopy has it."""
    # phonopy takes right-handed cells only: the negative vectors span the same lattice.
    cell = atoms.cell if atoms.cell.handedness > 0 else Cell(-atoms.cell.array)
    return import_module("phonopy.structure.atoms").PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=cell.array,
        scaled_positions=cell.scaled_positions(atoms.positions) % 1.0,
        masses=atoms.get_masses(),
    )


def _primitive_cell(atoms: Atoms, tolerance_A: float) -> Cell:
    unit_cell = _unit_cell(atoms)
    return Cell(_primitive(atoms, unit_cell, tolerance_A).T @ unit_cell.cell)


def _primitive(atoms: Atoms, unit_cell: Any, tolerance_A: float = _SYMMETRY_A) -> np.ndarray:
    """(3, 3) primitive cell in fractions of the unit cell; the unit cell itself where isotopes tell its atoms apart."""
    if _has_isotopes(atoms):
        return np.eye(3)
    primitive = np.asarray(import_module("phonopy.structure.cells").guess_primitive_matrix(unit_cell, tolerance_A))
    return np.eye(3) if np.isclose(np.linalg.det(primitive), 1.0) else primitive  # the user's own axes


def _band_path(primitive: Cell, path: str | None, points: int) -> BandPath:
    known = primitive.bandpath(npoints=0).special_points
    try:
        band = primitive.bandpath(path, npoints=points)
    except KeyError as error:
        raise ValueError(f"path {path!r}: no special point {error}: choose of {', '.join(known)}") from None
    except (ValueError, IndexError):
        band = None
    if band is None or not len(band.kpts):
        raise ValueError(f"path {path!r} is none: write special points such as GX,KG, of {', '.join(known)}")
    return band


def _find_force_constants(solver: Any, atoms: Atoms, displacement_A: float) -> None:
    """Displace atoms, and give the phonopy object symmetric force constants."""
    solver.generate_displacements(distance=displacement_A)
    solver.forces = [_forces(atoms, cell) for cell in solver.supercells_with_displacements]
    solver.produce_force_constants(**_QUIET)
    solver.symmetrize_force_constants(**_QUIET)


def _forces(atoms: Atoms, cell: Any) -> np.ndarray:
    displaced = Atoms(cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
    displaced.calc = atoms.calc
    forces = displaced.get_forces()
    return forces - forces.mean(axis=0)


def _at(solver: Any, points: Any) -> np.ndarray:
    """(points, 3 N) frequencies in THz."""
    return np.array(solver.run_qpoints(np.asarray(points, dtype=float)).frequencies)
