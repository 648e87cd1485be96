"""From ``ase.Atoms`` to tensors, the only place where this happens. The Atoms are read, never changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_masses
from numpy.typing import NDArray

from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.graph.neighbors import neighbor_list

_COINCIDE = 1e-3  # Å


def atoms_to_graph(
    atoms: Atoms, cutoff: float, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> AtomicGraph:
    """Graph of one structure: its atoms, joined wherever two are closer than the cutoff.

    Parameters
    ----------
    atoms : ase.Atoms
        Positions and cell in Å. Any atomic number is passed on, 0 ("X") included; whether it is known is for the
        potential to say.
    cutoff : float
        Å, positive.
    dtype, device
        Of edge vectors and cell. Both are computed in float64 and rounded last.

    Returns
    -------
    AtomicGraph
        S = 1; ``cell`` is zero unless the structure has three independent cell vectors; ``charge`` is
        ``atoms.info["charge"]``, zero where there is none.

    Raises
    ------
    ValueError
        As :func:`~ase_equivariant.graph.neighbors.neighbor_list`.
    """
    edge_index, edge_vectors, _ = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    return with_moments(graph_from_edges(atoms, edge_index, edge_vectors, dtype=dtype, device=device), atoms)


def graph_from_edges(
    atoms: Atoms,
    edge_index: NDArray[np.int64],
    edge_vectors: NDArray[np.float64],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> AtomicGraph:
    """Graph of one structure whose edges are known, from a :class:`~ase_equivariant.graph.neighbors.VerletList`.

    Parameters
    ----------
    atoms : ase.Atoms
        The structure the edges belong to; its atomic numbers and cell are taken.
    edge_index : numpy.ndarray
        (2, E) integers, centre i and neighbor j, sorted by i.
    edge_vectors : numpy.ndarray
        (E, 3), ``r_j − r_i + S·cell`` in Å.
    dtype, device
        Of edge vectors and cell.

    Returns
    -------
    AtomicGraph
        S = 1; it shares no memory with the arrays and the Atoms.
    """
    # A cell without volume has no stress. The vectors that it may have are in the edges already.
    cell = atoms.cell.array if atoms.cell.rank == 3 else np.zeros((3, 3))
    # NumPy copies large arrays: PyTorch would start threads, which then spin beside those of the compiled network.
    return AtomicGraph(
        atomic_numbers=torch.tensor(atoms.numbers, dtype=torch.int64, device=device),
        edge_index=torch.from_numpy(np.array(edge_index, dtype=np.int64)).to(device),
        edge_vectors=torch.from_numpy(np.array(edge_vectors, dtype=np.float64)).to(device, dtype),
        cell=torch.tensor(cell, dtype=dtype, device=device).reshape(1, 3, 3),
        batch=torch.zeros(len(atoms), dtype=torch.int64, device=device),
    )


def refuse_coinciding_atoms(edge_index: NDArray[np.int64], edge_vectors: NDArray[np.float64]) -> None:
    """Refuse atoms nearer than 0.001 Å, such as an atom and its copy across a boundary, which differ by rounding.

    Raises
    ------
    ValueError
        Names two of them.
    """
    coinciding = np.flatnonzero(np.einsum("ea,ea->e", edge_vectors, edge_vectors) < _COINCIDE**2)
    if len(coinciding):
        i, j = edge_index[:, coinciding[0]]
        raise ValueError(f"atoms {i} and {j} are at the same position: move or remove one of them")


def with_moments(graph: AtomicGraph, atoms: Atoms) -> AtomicGraph:
    """The graph of ``atoms`` with what dipoles and charges look at; energies do without, and MD takes many graphs."""
    device = graph.cell.device
    return replace(
        graph,
        positions=torch.tensor(atoms.positions, dtype=torch.float64, device=device),
        pbc=torch.tensor([bool(atoms.pbc.any())], device=device),
        charge=torch.tensor([total_charge(atoms)], dtype=torch.float64, device=device),
    )


def dipole_of_isotopes(atoms: Atoms) -> NDArray[np.float64]:
    """What the dipole of a model, about the centre of the elements' mean masses, lacks about that of the atoms' own.

    (3,) e·Å, zero but for ions with isotopes.
    """
    charge = total_charge(atoms)
    if not charge:
        return np.zeros(3)
    means = atomic_masses[atoms.numbers]
    return charge * ((means @ atoms.positions) / means.sum() - atoms.get_center_of_mass())


def total_charge(atoms: Atoms) -> float:
    """Charge of a structure in e: ``atoms.info["charge"]``, zero where there is none.

    Initial charges are not looked at: they are guesses of atoms' charges that other calculators start from.

    Raises
    ------
    ValueError
        If it is not a finite number.
    """
    charge = atoms.info.get("charge", 0.0)
    try:
        value = float(charge)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(f'atoms.info["charge"] = {charge!r} is not a charge in e: give a number, such as 1')
    return value
