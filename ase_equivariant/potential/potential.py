"""The potential: graph in, energy and its derivatives out."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict, cast

import torch
from ase.data import atomic_numbers, chemical_symbols
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from ase_equivariant.architectures import AnyArchitecture, Exchange, build_network
from ase_equivariant.config import Config
from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.kernels import Constants
from ase_equivariant.potential.derivatives import (
    born_effective_charges,
    edge_gradients,
    forces_from_edges,
    node_virials_from_edges,
    stress_from_virial,
    virial_from_nodes,
)
from ase_equivariant.potential.readout_config import AnyReadout, irreps_read
from ase_equivariant.potential.readouts import EnergyReadout, sum_over_structures
from ase_equivariant.potential.repulsion import ZBL, EnvelopedZBL
from ase_equivariant.potential.scaling import Scaling
from ase_equivariant.potential.tensor_readouts import DipoleReadout, Readout, build_readout


class Prediction(TypedDict, total=False):
    """What a potential says of S structures with N atoms; a quantity that was not computed is absent.

    ``energy`` (S,) and ``node_energies`` (N,) in eV, float64; ``forces`` (N, 3) eV/Å;
    ``virial`` (S, 3, 3) and ``node_virials`` (N, 3, 3) eV; ``stress`` (S, 3, 3) eV/Å³, tensile
    positive, with NaN for a structure of the batch that has no cell and absent if none has.

    Of read-outs, float64: ``dipole`` (S, 3) e·Å, NaN for a periodic structure and absent if all are;
    ``polarizability`` (S, 3, 3) e²·Å²/eV; ``charges`` (N,) e; ``born_effective_charges`` (N, 3, 3) e, dμ_a/dr_b, if
    they are asked for; and under their own names those of the user.
    """

    energy: Tensor
    node_energies: Tensor
    forces: Tensor
    virial: Tensor
    node_virials: Tensor
    stress: Tensor
    dipole: Tensor
    polarizability: Tensor
    charges: Tensor
    born_effective_charges: Tensor


class PotentialConfig(Config):
    """What a :class:`Potential` is made of.

    Attributes
    ----------
    architecture : NequIPConfig or GVPConfig
        The network; in a file ``name`` says which of them ("nequip" if it is left out).
    readout_hidden : tuple of int
        Hidden widths of the energy read-out; empty for a linear one.
    zbl : bool
        Whether to add the ZBL nuclear repulsion.
    zbl_inner, zbl_outer : float
        Å, between which it is switched off.
    zbl_envelope_p : float or None
        Exponent of a polynomial envelope up to the network's cutoff that takes the place of
        that switch, as in NequIP.
    readouts : tuple
        What is predicted beside the energy, each by its ``kind``: "dipole", "polarizability", "charges", or "irreps"
        with a name; see :mod:`ase_equivariant.potential.readout_config`.
    """

    architecture: AnyArchitecture
    readout_hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    zbl: bool = False
    zbl_inner: float = Field(default=0.5, gt=0)
    zbl_outer: float = Field(default=1.2, gt=0)
    zbl_envelope_p: float | None = Field(default=None, ge=2)
    readouts: tuple[AnyReadout, ...] = ()

    @field_validator("architecture", mode="before")
    @classmethod
    def _nequip_unless_named(cls, value: Any) -> Any:
        return {"name": "nequip", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> PotentialConfig:
        switched = self.zbl and self.zbl_envelope_p is None
        if switched and not self.zbl_inner < self.zbl_outer <= self.architecture.cutoff:
            raise ValueError(
                f"ZBL switches from {self.zbl_inner} to {self.zbl_outer} Å: "
                f"choose zbl_inner < zbl_outer <= cutoff ({self.architecture.cutoff} Å)"
            )
        keys = [readout.key for readout in self.readouts]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"there are two read-outs called {twice[0]!r}: leave out one of them")
        return self


class PeriodicChargesError(ValueError):
    """Derivatives of a dipole with point charges are asked for in a periodic structure, where they are not defined."""


class UnknownElementError(ValueError):
    """A structure holds an element that the model was not trained on."""


class _SpeciesTable(Constants):
    """Nuclear charge → species index, −1 where unknown."""

    index_of_number: Tensor

    def __init__(self, species: tuple[str, ...]):
        super().__init__()
        index_of_number = torch.full((len(chemical_symbols),), -1)
        for index, symbol in enumerate(species):
            index_of_number[atomic_numbers[symbol]] = index
        self.add_constant("index_of_number", index_of_number)


class Potential(nn.Module):
    """A network with its energy read-out, species scaling and optional core repulsion.

    ``E = Σ_i scale[z_i] · readout(network(graph))_i + shift[z_i]  (+ ZBL)``; forces and stress
    are exact derivatives of E. Built in float64; ``.to(torch.float32)`` makes the fast one.

    Parameters
    ----------
    config : PotentialConfig
        Weights are random until trained or loaded (`torch.manual_seed` decides them).
    """

    def __init__(self, config: PotentialConfig):
        super().__init__()
        self.config = config
        species = config.architecture.species
        self.network = build_network(config.architecture, irreps_read(config.readouts))
        self.readout = EnergyReadout(self.network.irreps_out, config.readout_hidden)
        self.scaling = Scaling(len(species))
        self.species_table = _SpeciesTable(species)
        self.repulsion = _repulsion(config) if config.zbl else None
        made = (build_readout(readout, self.network.irreps_out, config.architecture) for readout in config.readouts)
        self.readouts = nn.ModuleDict({readout.key: readout for readout in made})

    def tensor_readouts(self) -> dict[str, Readout]:
        """What is read out beside the energy, by name."""
        return {name: cast(Readout, readout) for name, readout in self.readouts.items()}

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols the model knows, in the order of its per-species parameters."""
        return self.config.architecture.species

    @property
    def cutoff(self) -> float:
        """Å; edges must hold every pair closer than this."""
        return self.config.architecture.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the network."""
        return self.network.embedding.dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.network.embedding.device

    def forward(
        self,
        graph: AtomicGraph,
        *,
        forces: bool = True,
        stress: bool = False,
        create_graph: bool = False,
        exchange: Exchange | None = None,
        readouts: bool = True,
        born_charges: bool = False,
    ) -> Prediction:
        """Energy, the derivatives asked for, and the model's other read-outs.

        Parameters
        ----------
        graph : AtomicGraph
            One structure or a batch; cast to the model's device and dtype.
        forces : bool
            Whether to compute forces.
        stress : bool
            Whether to compute virial, atomic virials and stress.
        create_graph : bool
            Whether the result is differentiable with respect to the parameters (for training).
        exchange : Exchange, optional
            Where the graph is one process's part of a divided structure. Energies are then those of its local atoms,
            while ``forces`` and ``node_virials`` have rows for ghosts, too: shares that belong to their owners. There
            are no other read-outs of a part.
        readouts : bool
            Whether to compute what the model predicts beside the energy.
        born_charges : bool
            Whether to compute the derivatives of the dipole, three backward passes.

        Raises
        ------
        ValueError
            If derivatives of a dipole are asked for that there is not.
        PeriodicChargesError
            If they are, of a periodic structure, and the dipole is one of point charges, too.
        UnknownElementError
            Names the elements the model does not know and those it does.
        """
        graph = graph.to(self.device, self.dtype)
        species = self.species_indices(graph.atomic_numbers)
        derive = forces or stress or born_charges
        edge_vectors = graph.edge_vectors.detach().requires_grad_(derive)
        with torch.set_grad_enabled(derive or create_graph):
            features = self.network(species, graph.edge_index, edge_vectors, exchange)
            node_energies = self._energies(features, species, graph.edge_index, edge_vectors)
            energy = sum_over_structures(node_energies, graph.batch[: len(node_energies)], graph.num_structures)
            others = self._read_out(features, species, graph) if readouts and exchange is None else {}
            if born_charges:
                others["born_effective_charges"] = self._born_charges(
                    features, species, edge_vectors, graph, create_graph
                )
        prediction = Prediction(energy=energy, node_energies=node_energies, **others)  # type: ignore[typeddict-item]
        if forces or stress:
            gradients = edge_gradients(energy, edge_vectors, create_graph)
            if forces:
                prediction["forces"] = forces_from_edges(gradients, graph)
            if stress:
                prediction["node_virials"] = node_virials_from_edges(gradients, graph)
                add_virial_and_stress(prediction, graph)
        if not create_graph:
            prediction = cast(Prediction, {name: cast(Tensor, value).detach() for name, value in prediction.items()})
        return prediction

    def atomic_energies(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, exchange: Exchange | None = None
    ) -> Tensor:
        """Energies of atoms in eV, (N,) float64, from species indices, (2, E) edges and (E, 3) edge vectors in Å.

        With ``exchange`` those of its local atoms, the first of the N.
        """
        features = self.network(species, edge_index, edge_vectors, exchange)
        return self._energies(features, species, edge_index, edge_vectors)

    def _energies(self, features: Tensor, species: Tensor, edge_index: Tensor, edge_vectors: Tensor) -> Tensor:
        energies = self.scaling(self.readout(features), species[: len(features)])
        if self.repulsion is not None:
            r = torch.linalg.vector_norm(edge_vectors, dim=1)
            energies = energies + self.repulsion(species, edge_index, r)[: len(features)]
        return energies

    def _read_out(self, features: Tensor, species: Tensor, graph: AtomicGraph) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {key: read(features, species, graph) for key, read in self.readouts.items()}
        if bool(graph.is_periodic.all()):
            values.pop("dipole", None)
        return values

    def _born_charges(
        self, features: Tensor, species: Tensor, edge_vectors: Tensor, graph: AtomicGraph, create_graph: bool
    ) -> Tensor:
        if "dipole" not in self.readouts:
            raise ValueError("Born effective charges are derivatives of a dipole, which this model does not predict")
        read = cast(DipoleReadout, self.readouts["dipole"])
        if read.config.charges and bool(graph.is_periodic.any()):
            raise PeriodicChargesError(
                "Born effective charges of a periodic structure need a dipole without point charges, whose share "
                "depends on the choice of the cell: train a read-out with charges = false"
            )
        dipole, point_charges = read.with_point_charges(features, species, graph)
        return born_effective_charges(dipole, point_charges, edge_vectors, graph, create_graph)

    def species_indices(self, numbers: Tensor) -> Tensor:
        """Indices into :attr:`species` of nuclear charges (N,); unknown ones raise :class:`UnknownElementError`."""
        species = self.species_table.index_of_number[numbers]
        if numbers.numel() and int(species.min()) < 0:
            unknown = sorted({chemical_symbols[int(z)] for z in numbers[species < 0]})
            raise UnknownElementError(
                f"this model does not know {', '.join(unknown)}: it was made for {', '.join(self.species)}"
            )
        return species


def _repulsion(config: PotentialConfig) -> ZBL | EnvelopedZBL:
    network = config.architecture
    numbers = torch.tensor([atomic_numbers[symbol] for symbol in network.species])
    if config.zbl_envelope_p is None:
        return ZBL(numbers, config.zbl_inner, config.zbl_outer)
    return EnvelopedZBL(numbers, network.pair_cutoff_matrix(), config.zbl_envelope_p)


def add_virial_and_stress(prediction: Prediction, graph: AtomicGraph) -> None:
    """From the virials of atoms that of every structure, and its stress, if one has a volume."""
    prediction["virial"] = virial = virial_from_nodes(prediction["node_virials"], graph)
    volume = graph.volume.to(virial.dtype)
    if bool((volume > 0).any()):
        prediction["stress"] = stress_from_virial(virial, volume)
