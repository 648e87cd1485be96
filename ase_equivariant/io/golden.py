"""Golden structures: what a model said when it was saved, asked again when it is loaded."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from pydantic import Field

from ase_equivariant.config import Config
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential.potential import Potential

# float64 arithmetic differs between machines in the last digits only; a wrong weight shows far above this.
ENERGY_TOLERANCE = 1e-7  # eV/atom, relative to 1 + |energy per atom|
FORCE_TOLERANCE = 1e-7  # eV/Å, relative to 1 + the largest force
READOUT_TOLERANCE = 1e-7  # relative to 1 + the largest component


class Golden(Config):
    """A structure with what the model gave for it in float64: energy (eV), forces (eV/Å), stress (eV/Å³), read-outs.

    Read-outs are flat lists, of the atoms as one molecule: a crystal has no dipole.
    """

    symbols: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]
    cell: tuple[tuple[float, float, float], ...] = Field(min_length=3, max_length=3)
    pbc: tuple[bool, bool, bool]
    energy: float
    forces: tuple[tuple[float, float, float], ...]
    stress: tuple[tuple[float, float, float], ...]
    readouts: dict[str, tuple[float, ...]] = Field(default_factory=dict)

    def atoms(self) -> Atoms:
        """The structure."""
        return Atoms(list(self.symbols), positions=self.positions, cell=self.cell, pbc=self.pbc)


class GoldenMismatchError(ValueError):
    """A model does not say what it said when it was saved."""


def golden_structure(species: tuple[str, ...], num_atoms: int = 12) -> Atoms:
    """A small skewed periodic crystal of all (or the first) species, the same on every machine.

    Sites of a 2×2×3 grid at typical bond lengths, displaced by the fractional parts of
    multiples of the golden ratio; every degree of freedom is off symmetry.
    """
    symbols = list(itertools.islice(itertools.cycle(species[: max(num_atoms, 1)]), num_atoms))
    spacing = 2.2 * float(np.mean([covalent_radii[atomic_numbers[symbol]] for symbol in symbols]))
    grid = np.array(list(itertools.product(range(2), range(2), range(3))), dtype=float)[:num_atoms]
    jitter = (np.arange(1, 3 * num_atoms + 1) * 0.6180339887498949 % 1.0 - 0.5).reshape(-1, 3)
    cell = spacing * np.array([[2.0, 0.1, 0.0], [0.2, 2.1, -0.1], [-0.3, 0.1, 3.1]])
    positions = (grid + 0.2 * jitter) / np.array([2.0, 2.0, 3.0]) @ cell
    return Atoms(symbols, positions=positions, cell=cell, pbc=True)


def make_golden(potential: Potential, atoms: Atoms | None = None) -> Golden:
    """Ask ``potential`` (in float64) about ``atoms``, by default :func:`golden_structure`."""
    atoms = golden_structure(potential.species) if atoms is None else atoms
    energy, forces, stress = _ask(potential, atoms)
    readouts = _ask_readouts(potential, atoms)
    return Golden(
        symbols=tuple(atoms.get_chemical_symbols()),
        positions=atoms.positions.tolist(),
        cell=atoms.cell.array.tolist(),
        pbc=(bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
        energy=energy,
        forces=forces.tolist(),
        stress=stress.tolist(),
        readouts={key: tuple(value.tolist()) for key, value in readouts.items()},
    )


def check_golden(potential: Potential, golden: Golden) -> None:
    """Compare ``potential`` (in float64) with ``golden``.

    Raises
    ------
    GoldenMismatchError
        If energy or forces differ beyond rounding.
    """
    energy, forces, _ = _ask(potential, golden.atoms())
    expected = np.array(golden.forces)
    energy_error = abs(energy - golden.energy) / len(golden.symbols)
    force_error = float(np.abs(forces - expected).max(initial=0.0))
    energy_bound = ENERGY_TOLERANCE * (1 + abs(golden.energy) / len(golden.symbols))
    force_bound = FORCE_TOLERANCE * (1 + float(np.abs(expected).max(initial=0.0)))
    if not (energy_error <= energy_bound and force_error <= force_bound):
        raise GoldenMismatchError(
            f"the model does not reproduce the energy and forces stored with it (off by {energy_error:.2e} eV/atom "
            f"and {force_error:.2e} eV/Å): the file or this installation is damaged, or a library computes wrongly"
        )
    found = _ask_readouts(potential, golden.atoms()) if golden.readouts else {}
    for key, values in golden.readouts.items():
        size = max(map(abs, values), default=0.0)
        if key not in found or not np.abs(found[key] - np.array(values)).max(initial=0.0) <= READOUT_TOLERANCE * (
            1 + size
        ):
            raise GoldenMismatchError(
                f"the model does not reproduce the {key} stored with it: the file or this installation is damaged, "
                "or a library computes wrongly"
            )


def _ask(potential: Potential, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    if potential.dtype != torch.float64:
        raise ValueError(
            f"golden values are made in float64, the potential is {potential.dtype}: use potential.double()"
        )
    graph = atoms_to_graph(atoms, potential.cutoff)
    prediction = potential(graph, stress=True)
    stress = prediction["stress"][0] if "stress" in prediction else torch.zeros(3, 3)
    return float(prediction["energy"][0]), prediction["forces"].cpu().numpy(), stress.cpu().numpy()


def _ask_readouts(potential: Potential, atoms: Atoms) -> dict[str, np.ndarray]:
    """Read-outs beside the energy, flat, of the atoms without periodic images."""
    if not potential.config.readouts:
        return {}
    isolated = Atoms(atoms.numbers, positions=atoms.positions)
    prediction = potential(atoms_to_graph(isolated, potential.cutoff), forces=False)
    return {readout.key: prediction[readout.key].cpu().numpy().ravel() for readout in potential.config.readouts}
