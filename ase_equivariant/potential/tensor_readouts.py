"""Read-outs beside the energy: dipole, polarizability, charges, any irreps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from ase.data import atomic_masses
from torch import Tensor, nn

from ase_equivariant.architectures import ArchitectureConfig
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.irreps import Irreps, merge, to_e3nn_layout
from ase_equivariant.irreps.cartesian import symmetric_to_cartesian
from ase_equivariant.nn.gate import Gate
from ase_equivariant.nn.linear import Linear
from ase_equivariant.potential.readout_config import (
    ChargesConfig,
    DipoleConfig,
    IrrepsConfig,
    PolarizabilityConfig,
    ReadoutConfig,
)
from ase_equivariant.potential.readouts import sum_over_structures
from ase_equivariant.potential.scaling import Scaling


class TensorReadout(nn.Module):
    """Features to a value of any irreps: gated layers, then a linear one.

    Parameters
    ----------
    irreps_in, irreps_out : Irreps
        Merged irreps of features and value.
    hidden : sequence of int
        Channels of each irrep of the value, and of even scalars, after each gated layer.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, hidden: Sequence[int] = ()):
        super().__init__()
        self.linears, self.gates = nn.ModuleList(), nn.ModuleList()
        for width in hidden:
            kept = {ir for _, ir in irreps_out} | {(0, 1)}
            gate = Gate(merge(Irreps([(width, ir) for ir in kept])))
            self.linears.append(Linear(irreps_in, gate.irreps_in))
            self.gates.append(gate)
            irreps_in = gate.irreps_out
        self.last = Linear(irreps_in, irreps_out)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps_in.dim) to (N, irreps_out.dim)."""
        for linear, gate in zip(self.linears, self.gates, strict=True):
            features = gate(linear(features))
        return cast(Tensor, self.last(features))


class Readout(nn.Module):
    """From features of atoms to what a configuration says, in float64.

    ``scaling`` holds the scale of each species and a shift of what may have one (mean polarizability, charge).

    Raises
    ------
    ValueError
        If the features lack an irrep that is read.
    """

    def __init__(self, config: ReadoutConfig, irreps_in: Irreps, architecture: ArchitectureConfig):
        super().__init__()
        missing = [ir for _, ir in config.irreps() if ir not in irreps_in]
        if missing:
            raise ValueError(
                f"read-out {config.key!r} takes {' and '.join(map(str, missing))}, but the network's last layer has "
                f"{irreps_in}: {architecture.cure_for_lack_of(missing)}, or leave the read-out out"
            )
        self.config, self.key = config, config.key
        self.tensor = TensorReadout(irreps_in, config.irreps(), config.hidden)
        self.scaling = Scaling(len(architecture.species))

    def atomic(self, features: Tensor, species: Tensor) -> Tensor:
        """Scaled values of atoms, (N, irreps.dim) float64, even scalar without its shift."""
        return self.scaling.scale[species].unsqueeze(1) * self.tensor(features).to(torch.float64)

    def forward(self, features: Tensor, species: Tensor, graph: AtomicGraph) -> Tensor:
        """Map (N, irreps_in.dim) to the value, (S, …) or (N, …)."""
        raise NotImplementedError


class DipoleReadout(Readout):
    """See :class:`DipoleConfig`."""

    config: DipoleConfig

    def forward(self, features: Tensor, species: Tensor, graph: AtomicGraph) -> Tensor:
        """(S, 3) e·Å about the centre of mass; NaN for a periodic structure, of which there is none."""
        dipole, _ = self.with_point_charges(features, species, graph)
        return torch.where(graph.is_periodic[:, None], dipole.new_full((), float("nan")), dipole)

    def with_point_charges(self, features: Tensor, species: Tensor, graph: AtomicGraph) -> tuple[Tensor, Tensor]:
        """Dipole of what is in the cell (S, 3), and how the lab frame's moves with each atom by itself, (N,) e."""
        atomic = self.atomic(features, species)
        share = mass_shares(graph)
        if not self.config.charges:
            return sum_atoms(atomic, graph), share * graph.total_charge[graph.batch]
        if graph.positions is None:
            raise ValueError("a dipole of charges needs positions, which this graph lacks: make it by atoms_to_graph")
        charges = neutralized(atomic[:, 0] + self.scaling.shift[species], graph)
        positions = graph.positions.to(torch.float64)
        centre = sum_atoms(share[:, None] * positions, graph)[graph.batch]
        moments = charges[:, None] * (positions - centre) + atomic[:, 1:]
        return sum_atoms(moments, graph), charges


class PolarizabilityReadout(Readout):
    """See :class:`PolarizabilityConfig`."""

    def forward(self, features: Tensor, species: Tensor, graph: AtomicGraph) -> Tensor:
        """(S, 3, 3) e²·Å²/eV."""
        atomic = self.atomic(features, species)
        isotropic = atomic[:, 0] + self.scaling.shift[species]
        return sum_atoms(symmetric_to_cartesian(isotropic, atomic[:, 1:]), graph)


class ChargesReadout(Readout):
    """See :class:`ChargesConfig`."""

    def forward(self, features: Tensor, species: Tensor, graph: AtomicGraph) -> Tensor:
        """(N,) e."""
        return neutralized(self.atomic(features, species)[:, 0] + self.scaling.shift[species], graph)


class IrrepsReadout(Readout):
    """See :class:`IrrepsConfig`."""

    def forward(self, features: Tensor, species: Tensor, graph: AtomicGraph) -> Tensor:
        """(S, dim) or (N, dim), in e3nn's order."""
        atomic = to_e3nn_layout(self.atomic(features, species), self.config.irreps())
        return atomic if self.config.per_atom else sum_atoms(atomic, graph)


_READOUTS: dict[type[ReadoutConfig], Any] = {
    DipoleConfig: DipoleReadout,
    PolarizabilityConfig: PolarizabilityReadout,
    ChargesConfig: ChargesReadout,
    IrrepsConfig: IrrepsReadout,
}


def build_readout(config: ReadoutConfig, irreps_in: Irreps, architecture: ArchitectureConfig) -> Readout:
    """The read-out of a configuration for a network that gives these irreps, with random weights."""
    readout: Readout = _READOUTS[type(config)](config, irreps_in, architecture)
    return readout


def sum_atoms(atomic: Tensor, graph: AtomicGraph) -> Tensor:
    """(N, …) to sums over the atoms of each structure, (S, …) float64."""
    return sum_over_structures(atomic, graph.batch, graph.num_structures)


def neutralized(charges: Tensor, graph: AtomicGraph) -> Tensor:
    """Charges (N,) with one amount added for each structure, so that they sum to its total charge."""
    counts = torch.bincount(graph.batch, minlength=graph.num_structures)
    excess = (sum_atoms(charges, graph) - graph.total_charge) / counts
    return charges - excess[graph.batch]


def mass_shares(graph: AtomicGraph) -> Tensor:
    """Mass of each atom over that of its structure, (N,) float64."""
    masses = torch.as_tensor(atomic_masses, dtype=torch.float64, device=graph.batch.device)[graph.atomic_numbers]
    return masses / sum_atoms(masses, graph)[graph.batch]
