"""What every architecture has: the keys that data decide, and the map from a graph to features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ase.data import chemical_symbols
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn

from ase_equivariant.config import Config
from ase_equivariant.irreps import Irrep, Irreps


class ArchitectureConfig(Config):
    """Keys of every architecture; each adds its own, and its ``name``.

    Attributes
    ----------
    name : str
        Of the architecture, one literal for each; tells configurations apart.
    species : tuple of str
        Chemical symbols the model knows.
    cutoff : float
        Å.
    avg_num_neighbors : float or None
        Normalization of the sum over neighbours; training fills it in from the data.
    """

    name: str
    species: tuple[str, ...] = Field(min_length=1)
    cutoff: float = Field(gt=0, allow_inf_nan=False)
    avg_num_neighbors: float | None = Field(default=None, gt=0)

    @field_validator("species")
    @classmethod
    def _known_elements(cls, species: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [symbol for symbol in species if symbol not in chemical_symbols[1:]]
        if unknown:
            raise ValueError(f"not a chemical symbol: {', '.join(unknown)}")
        if len(set(species)) < len(species):
            raise ValueError("a chemical symbol appears twice")
        return species

    def summary(self) -> str:
        """The network's size in a few words, for people."""
        raise NotImplementedError

    def pair_cutoff_matrix(self) -> Tensor:
        """Cutoff of every pair of species in Å, (n_species, n_species) float64: centre, neighbour."""
        raise NotImplementedError

    def cure_for_lack_of(self, irreps: Sequence[Irrep]) -> str:
        """What to change for the last layer to have these irreps, for people."""
        raise NotImplementedError


class Exchange(Protocol):
    """How features of ghosts come by: of atoms that other processes compute, or of images of atoms computed here.

    A structure divided among processes has, on each of them, its local atoms in the first rows and behind them the
    ghosts, neighbours within one cutoff. Only local atoms are centres of edges. What a ghost is before the first
    layer is known by its species; after it, its owner alone knows.

    Attributes
    ----------
    num_local : int
        How many atoms are local.
    """

    num_local: int

    def __call__(self, features: Tensor) -> Tensor:
        """Map features of local atoms (num_local, D) to those of all atoms (N, D).

        Differentiable once: gradients of ghosts are added to those of the atoms that they are images of. Every
        process must call it equally often, whether it has atoms or not.
        """
        ...

    def in_place(self, rows: NDArray[Any], gradients: bool) -> None:
        """The same for compiled code, which calls it forwards and backwards: rows (N, D) are changed in place.

        Those of ghosts become their owners'; or, being gradients, they are added to their owners'.
        """
        ...


class Network(nn.Module):
    """Edge vectors and species to equivariant features of atoms.

    Attributes
    ----------
    embedding : nn.Parameter
        (n_species, channels); its dtype and device are the network's.
    irreps_out : Irreps
        Merged irreps of the features.
    """

    embedding: nn.Parameter
    irreps_out: Irreps

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, exchange: Exchange | None = None
    ) -> Tensor:
        """Features of every atom.

        Parameters
        ----------
        species : Tensor
            (N,) int64, indices into ``config.species``.
        edge_index : Tensor
            (2, E) int64; row 0 receives, row 1 sends.
        edge_vectors : Tensor
            (E, 3), from centre to neighbour, Å.
        exchange : Exchange, optional
            Where some of the atoms are ghosts.

        Returns
        -------
        Tensor
            (N, irreps_out.dim); with ``exchange`` of local atoms only, (num_local, irreps_out.dim).
        """
        raise NotImplementedError
