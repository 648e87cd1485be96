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

    References
    ----------
    Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv:2101.03164.
    """

    atomic_numbers: Tensor
    edge_index: Tensor
    edge_vectors: Tensor
    cell: Tensor
    batch: Tensor

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

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> AtomicGraph:
        """Return the graph on ``device`` with floating-point tensors of type ``dtype``."""
        return replace(
            self,
            atomic_numbers=self.atomic_numbers.to(device=device),
            edge_index=self.edge_index.to(device=device),
            edge_vectors=self.edge_vectors.to(device=device, dtype=dtype),
            cell=self.cell.to(device=device, dtype=dtype),
            batch=self.batch.to(device=device),
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
        )
