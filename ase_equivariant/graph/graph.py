"""The atomic graph: what a potential sees of a structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class AtomicGraph:
    """One structure, or a batch of S structures, as atoms joined by directed edges.

    Every pair of atoms closer than the cutoff gives two directed edges, i→j and j→i.
    A potential reads nothing but species and edge vectors, so it is invariant to
    translation by construction; forces and stress are derivatives with respect to
    the edge vectors (:mod:`ase_equivariant.potential.derivatives`).

    Attributes
    ----------
    atomic_numbers : Tensor
        (N,) int64, nuclear charges.
    edge_index : Tensor
        (2, E) int64. Row 0 is the centre i, which receives messages; row 1 is the
        neighbour j, which sends them. Sorted by i.
    edge_vectors : Tensor
        (E, 3) floating point, ``r_j − r_i + S·cell`` in Å.
    cell : Tensor
        (S, 3, 3) floating point, rows are lattice vectors in Å; zero where a
        structure has no cell (its stress is then undefined).
    batch : Tensor
        (N,) int64, index of the structure each atom belongs to, ascending.
    positions : Tensor, optional
        (N, 3) in Å, of atoms that make up one connected piece each; only dipoles of charges look at them.
    pbc : Tensor, optional
        (S,) bool, whether the structure is periodic in any direction; default where it has a cell.
    charge : Tensor, optional
        (S,) float64, total charge of each structure in e; default 0.

    References
    ----------
    Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv:2101.03164.
    """

    atomic_numbers: Tensor
    edge_index: Tensor
    edge_vectors: Tensor
    cell: Tensor
    batch: Tensor
    positions: Tensor | None = None
    pbc: Tensor | None = None
    charge: Tensor | None = None

    @property
    def num_atoms(self) -> int:
        """N, the number of atoms of all structures together."""
        return self.atomic_numbers.shape[0]

    @property
    def num_edges(self) -> int:
        """E, the number of directed edges."""
        return self.edge_index.shape[1]

    @property
    def num_structures(self) -> int:
        """S, the number of structures in the batch."""
        return self.cell.shape[0]

    @property
    def volume(self) -> Tensor:
        """(S,) cell volumes in Å³, zero where a structure has no cell."""
        a, b, c = self.cell.unbind(dim=1)
        return (a * torch.linalg.cross(b, c)).sum(-1).abs()

    @property
    def is_periodic(self) -> Tensor:
        """(S,) bool; of structures that do not say it, those with a cell."""
        return self.volume > 0 if self.pbc is None else self.pbc

    @property
    def total_charge(self) -> Tensor:
        """(S,) float64 in e; of structures that do not say it, zero."""
        if self.charge is not None:
            return self.charge
        return torch.zeros(self.num_structures, dtype=torch.float64, device=self.cell.device)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> AtomicGraph:
        """Return the graph on ``device``, its edge vectors and cell of type ``dtype``; the rest stays float64."""
        return replace(
            self,
            atomic_numbers=self.atomic_numbers.to(device=device),
            edge_index=self.edge_index.to(device=device),
            edge_vectors=self.edge_vectors.to(device=device, dtype=dtype),
            cell=self.cell.to(device=device, dtype=dtype),
            batch=self.batch.to(device=device),
            positions=None if self.positions is None else self.positions.to(device=device),
            pbc=None if self.pbc is None else self.pbc.to(device=device),
            charge=None if self.charge is None else self.charge.to(device=device),
        )

    @staticmethod
    def collate(graphs: Sequence[AtomicGraph]) -> AtomicGraph:
        """Join graphs into one batch; edges never cross structures.

        Raises
        ------
        ValueError
            If ``graphs`` is empty.
        """
        if not graphs:
            raise ValueError("cannot batch an empty list of graphs: pass at least one")
        atom_offset, structure_offset = 0, 0
        edge_index, batch = [], []
        for graph in graphs:
            edge_index.append(graph.edge_index + atom_offset)
            batch.append(graph.batch + structure_offset)
            atom_offset += graph.num_atoms
            structure_offset += graph.num_structures
        return AtomicGraph(
            atomic_numbers=torch.cat([g.atomic_numbers for g in graphs]),
            edge_index=torch.cat(edge_index, dim=1),
            edge_vectors=torch.cat([g.edge_vectors for g in graphs]),
            cell=torch.cat([g.cell for g in graphs]),
            batch=torch.cat(batch),
            positions=_join([g.positions for g in graphs]),
            pbc=torch.cat([g.is_periodic for g in graphs]),
            charge=torch.cat([g.total_charge for g in graphs]),
        )


def _join(parts: Sequence[Tensor | None]) -> Tensor | None:
    """One tensor of all parts, None if one is missing."""
    known = [part for part in parts if part is not None]
    return torch.cat(known) if len(known) == len(parts) else None
