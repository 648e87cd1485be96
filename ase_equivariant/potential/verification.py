"""Fast evaluation against the eager float64 potential, on the user's own atoms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.potential.potential import Potential, Prediction

# Allowed deviation from float64: absolute, and relative to the largest value of its kind. Atoms that almost touch, with
# forces of tens of eV/Å, are where cubic tables are at their worst: 2e-5 of the force at 0.75 Å.
_ALLOWED = {
    torch.float32: {"energies": (2e-5, 3e-5), "forces": (1e-4, 3e-5), "virials": (5e-4, 3e-5)},
    torch.float64: {"energies": (1e-8, 1e-11), "forces": (1e-7, 1e-9), "virials": (5e-7, 1e-9)},
}


@dataclass(frozen=True)
class Verification:
    """How far fast predictions are from the eager float64 potential's.

    Attributes
    ----------
    num_atoms : int
        Compared: all, or a neighbourhood of a large structure.
    energies, forces, virials : float
        Largest deviation of atomic energies (eV), forces (eV/Å) and atomic virials (eV).
    allowed : dict
        The bounds on them.
    """

    num_atoms: int
    energies: float
    forces: float
    virials: float
    allowed: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether all are within their bounds; NaN is not, unless both have it."""
        return all(getattr(self, name) <= bound for name, bound in self.allowed.items())

    def __str__(self) -> str:
        parts = [f"{name} {getattr(self, name):.1e} (allowed {bound:.1e})" for name, bound in self.allowed.items()]
        return f"on {self.num_atoms} atoms: {', '.join(parts)} eV, eV/Å, eV"


def verify(
    fast: FrozenPotential, potential: Potential, graph: AtomicGraph, max_atoms: int | None = 128
) -> Verification:
    """Compare on a graph, or on a neighbourhood of ``max_atoms`` of its atoms.

    Parameters
    ----------
    fast : FrozenPotential
        Made from ``potential``, in its own precision.
    potential : Potential
        In float64.
    graph : AtomicGraph
        Float64.
    max_atoms : int, optional
        None compares all atoms, which takes the memory that the eager potential takes.
    """
    if max_atoms is not None and graph.num_atoms > max_atoms:
        graph = neighbourhood(graph, max_atoms)
    expected = potential(graph, forces=True, stress=True, readouts=False)
    found = fast(graph, forces=True, stress=True)
    shift = potential.scaling.shift[potential.species_indices(graph.atomic_numbers)]  # exact, and often a thousand eV
    for prediction in (expected, found):
        prediction["node_energies"] = prediction["node_energies"] - shift
    errors, allowed = {}, {}
    for name, key in (("energies", "node_energies"), ("forces", "forces"), ("virials", "node_virials")):
        errors[name], size = _deviation(found, expected, key)
        absolute, relative = _ALLOWED[fast.dtype][name]
        allowed[name] = absolute + relative * size
    return Verification(graph.num_atoms, **errors, allowed=allowed)


def _deviation(found: Prediction, expected: Prediction, key: str) -> tuple[float, float]:
    a, b = (prediction[key].detach().to("cpu", torch.float64) for prediction in (found, expected))  # type: ignore[literal-required]
    if not b.numel():
        return 0.0, 0.0
    if not bool(torch.isfinite(b).all()):  # nothing to compare with; the calculator refuses such results by itself
        return 0.0 if not bool(torch.isfinite(a).all()) else float("inf"), 0.0
    return float((a - b).abs().max()), float(b.abs().max())


def neighbourhood(graph: AtomicGraph, max_atoms: int) -> AtomicGraph:
    """About ``max_atoms`` atoms around one of each element, with the edges among them, as one molecule.

    An energy of its own, other than in the structure: the same edges are given to both sides of a comparison.
    """
    centre, neighbour = graph.edge_index
    chosen = torch.zeros(graph.num_atoms, dtype=torch.bool)
    chosen[_one_of_each_element(graph)[:max_atoms]] = True
    count = int(chosen.sum())
    while count < max_atoms:
        reached = neighbour[chosen[centre]]
        new = torch.unique(reached[~chosen[reached]])[: max_atoms - count]
        if not len(new):
            break
        chosen[new] = True
        count += len(new)
    kept = chosen[centre] & chosen[neighbour]
    position: Tensor = torch.cumsum(chosen, 0) - 1
    return AtomicGraph(
        atomic_numbers=graph.atomic_numbers[chosen],
        edge_index=position[graph.edge_index[:, kept]],
        edge_vectors=graph.edge_vectors[kept],
        cell=torch.zeros_like(graph.cell[:1]),
        batch=torch.zeros(count, dtype=torch.int64),
    )


def _one_of_each_element(graph: AtomicGraph) -> Tensor:
    """An atom of every element, with a neighbour where any has one. Atoms of other processes are neighbours only."""
    centre, neighbour = graph.edge_index
    found = []
    for number in graph.atomic_numbers.unique():
        edges = torch.nonzero(graph.atomic_numbers[centre] == number).flatten()
        if not len(edges):
            edges = torch.nonzero(graph.atomic_numbers[neighbour] == number).flatten()
        if len(edges):
            found.append(graph.edge_index[:, edges[len(edges) // 2]])
        else:
            found.append(torch.nonzero(graph.atomic_numbers == number)[0])
    return torch.cat(found)
