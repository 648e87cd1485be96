"""NequIP: E(3)-equivariant message passing with tensor products of features and spherical harmonics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from ase_equivariant.architectures.base import ArchitectureConfig, Exchange, Network
from ase_equivariant.irreps import Irrep, Irreps, merge
from ase_equivariant.kernels import Constants
from ase_equivariant.nn.angular import SphericalHarmonics
from ase_equivariant.nn.convolution import Convolution
from ase_equivariant.nn.gate import Gate
from ase_equivariant.nn.linear import Linear, SpeciesGroups, SpeciesLinear, group_by_species
from ase_equivariant.nn.norm import EquivariantRMSNorm
from ase_equivariant.nn.radial import BesselBasis, PolynomialCutoff, XPLORCutoff
from ase_equivariant.nn.square import TensorSquare


class NequIPConfig(ArchitectureConfig):
    """Hyper-parameters of :class:`NequIP`; those of every architecture come first.

    Attributes
    ----------
    num_layers : int
        Interaction layers, the receptive field in units of the cutoff.
    l_max : int
        Highest degree of the spherical harmonics.
    irreps_hidden : str or tuple of str
        Features after each layer in e3nn's notation, one for all layers or one for each.
        Given as one, the last layer keeps the even scalars and what the read-outs take: nothing reads the rest.
    num_embedding : int or None
        Channels of the species embedding; default as many as ``irreps_hidden`` has even scalars.
    parity : bool
        Whether inversion is a symmetry: if not, every irrep must be even, as in SevenNet.
    solid_harmonics : bool
        Whether to take harmonics of the edge vector itself, r^l Y_l, in place of its direction's, as
        SevenNet-0 does.
    num_radial : int
        Bessel functions.
    trainable_radial : bool
        Whether their wave numbers are fitted.
    radial_hidden : tuple of int
        Hidden widths of the radial networks.
    cutoff_function : {"polynomial", "xplor"}
        Smooth cutoff, with ``polynomial_p`` or ``xplor_onset``.
    polynomial_p : float
        Exponent of the polynomial: the higher, the later messages fade.
    xplor_onset : float or None
        Distance (Å) from which XPLOR's switch falls.
    pair_cutoffs : dict or None
        Shorter cutoffs (Å) of some pairs, ``{centre: {neighbour: cutoff}}`` by chemical symbol; the
        others have ``cutoff``. Radial functions are those of the distance stretched by cutoff / pair cutoff.
    neighbors_per_species : dict or None
        Further normalization by the species that sends: messages of a neighbour are divided by the
        root of its species' number, as NequIP does if ``avg_num_neighbors`` is given per type.
    self_connection : {"species", "linear", "none"}
        Skip connection with one matrix per species (NequIP), one for all (SevenNet-l3i5), or none.
    first_self_connection : bool
        Whether the first layer has it, too. Without, an atom with no neighbours within the
        cutoff has exactly its species' shift as energy.
    scalar_bias : bool
        Whether the linear maps before and after the convolution add a constant to even scalars, as
        SevenNet's multi-fidelity models do.
    tensor_square : bool
        Whether products of an atom's features with themselves are added before each gate, in all layers but those of
        scalars alone: pairs of neighbours, in the manner of MACE (not in NequIP).
    norm : {"none", "rms"}
        Equivariant RMS normalization before each gate.
    """

    name: Literal["nequip"] = "nequip"
    num_layers: int = Field(default=4, ge=1)
    l_max: int = Field(default=2, ge=0, le=11)
    irreps_hidden: str | tuple[str, ...] = "32x0e+32x1o+32x2e"
    num_embedding: int | None = Field(default=None, ge=1)
    parity: bool = True
    solid_harmonics: bool = False
    num_radial: int = Field(default=8, ge=1)
    trainable_radial: bool = True
    radial_hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)
    cutoff_function: Literal["polynomial", "xplor"] = "polynomial"
    polynomial_p: float = Field(default=6.0, ge=2)
    xplor_onset: float | None = Field(default=None, ge=0)
    pair_cutoffs: dict[str, dict[str, Annotated[float, Field(gt=0)]]] | None = None
    neighbors_per_species: dict[str, Annotated[float, Field(gt=0)]] | None = None
    self_connection: Literal["species", "linear", "none"] = "species"
    first_self_connection: bool = True
    scalar_bias: bool = False
    tensor_square: bool = False
    norm: Literal["none", "rms"] = "none"

    @field_validator("irreps_hidden")
    @classmethod
    def _valid_irreps(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for text in [value] if isinstance(value, str) else value:
            try:
                scalars = Irreps(text).count("0e")
            except ValueError:
                raise ValueError(f"{text!r} is not irreps in e3nn's notation, such as '32x0e+32x1o'") from None
            if scalars == 0:
                raise ValueError(f"{text!r} has no even scalars (0e), which every layer needs")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> NequIPConfig:
        if not isinstance(self.irreps_hidden, str) and len(self.irreps_hidden) != self.num_layers:
            raise ValueError(
                f"irreps_hidden lists {len(self.irreps_hidden)} layers but num_layers is {self.num_layers}"
            )
        if not self.parity and any(ir.p == -1 for irreps in self.layer_irreps() for _, ir in irreps):
            raise ValueError("parity = false needs even irreps only (such as '32x0e+32x1e'); found odd ones")
        if self.cutoff_function == "xplor" and (self.xplor_onset is None or self.xplor_onset >= self.cutoff):
            raise ValueError("cutoff_function = 'xplor' needs xplor_onset below the cutoff")
        if self.solid_harmonics and self.pair_cutoffs:
            raise ValueError("solid_harmonics and pair_cutoffs cannot be combined: leave out one of them")
        if self.neighbors_per_species is not None and set(self.neighbors_per_species) != set(self.species):
            raise ValueError(f"neighbors_per_species needs one number for each of {', '.join(self.species)}")
        for centre, row in (self.pair_cutoffs or {}).items():
            if unknown := [symbol for symbol in (centre, *row) if symbol not in self.species]:
                raise ValueError(f"pair_cutoffs names {unknown[0]}, which is not among the species")
            if (longest := max(row.values(), default=0.0)) > self.cutoff:
                raise ValueError(f"pair_cutoffs has {longest} Å for {centre}, above the cutoff of {self.cutoff} Å")
        return self

    def cure_for_lack_of(self, irreps: Sequence[Irrep]) -> str:
        """Parity if one is odd and there is none, more of irreps_hidden otherwise."""
        if not self.parity and any(ir.p == -1 for ir in irreps):
            return "parity = false has even irreps only: set parity = true, and the irreps in irreps_hidden accordingly"
        return "add it to irreps_hidden with an l_max that reaches it"

    def layer_irreps(self, keep: Sequence[Irrep] = ()) -> tuple[Irreps, ...]:
        """Merged irreps after each layer, as configured (a layer may reach fewer of them).

        ``keep`` says what the last layer keeps beside even scalars, if it is not listed by itself.
        """
        if not isinstance(self.irreps_hidden, str):
            return tuple(merge(Irreps(text)) for text in self.irreps_hidden)
        hidden = merge(Irreps(self.irreps_hidden))
        read = {Irrep("0e"), *keep}
        return (*[hidden] * (self.num_layers - 1), Irreps([(mul, ir) for mul, ir in hidden if ir in read]))

    def summary(self) -> str:
        """The network's size in a few words, for people."""
        irreps = self.irreps_hidden if isinstance(self.irreps_hidden, str) else " → ".join(self.irreps_hidden)
        return f"{self.num_layers} layers{' with squares' if self.tensor_square else ''}, l_max {self.l_max}, {irreps}"

    def pair_cutoff_matrix(self) -> Tensor:
        """Cutoff of every pair of species in Å, (n_species, n_species) float64: centre, neighbour."""
        pairs = self.pair_cutoffs or {}
        rows = [[pairs.get(a, {}).get(b, self.cutoff) for b in self.species] for a in self.species]
        return torch.tensor(rows, dtype=torch.float64)


class NequIPLayer(nn.Module):
    """One interaction: ``x ← gate(norm(square(convolution(x) + self-connection(x))))``, the first two optional."""

    def __init__(
        self,
        config: NequIPConfig,
        irreps_in: Irreps,
        irreps_sh: Irreps,
        irreps_hidden: Irreps,
        self_connection: Literal["species", "linear", "none"],
    ):
        super().__init__()
        reached = {ir for _, a in irreps_in for _, b in irreps_sh for ir in a * b}
        self.gate = Gate(Irreps([(mul, ir) for mul, ir in irreps_hidden if ir in reached]))
        irreps_conv = self.gate.irreps_in
        self.irreps_out = self.gate.irreps_out
        self.convolution = Convolution(
            irreps_in,
            irreps_sh,
            irreps_conv,
            [config.num_radial, *config.radial_hidden],
            config.avg_num_neighbors or 1.0,
            config.scalar_bias,
        )
        self.species_connection = self.linear_connection = None
        if self_connection == "species":
            self.species_connection = SpeciesLinear(irreps_in, irreps_conv, len(config.species))
        elif self_connection == "linear":
            self.linear_connection = Linear(irreps_in, irreps_conv)
        self.square: TensorSquare | None = None
        if config.tensor_square and any(ir.l > 0 for _, ir in self.irreps_out):
            self.square = TensorSquare(irreps_conv, self.irreps_out)
        self.norm = EquivariantRMSNorm(irreps_conv) if config.norm == "rms" else nn.Identity()

    def forward(
        self,
        x: Tensor,
        groups: SpeciesGroups,
        harmonics: Tensor,
        basis: Tensor,
        edge_index: Tensor,
        num_local: int | None = None,
    ) -> Tensor:
        """Map node features (N, irreps_in.dim) to (N, irreps_out.dim), or those of the first ``num_local`` atoms."""
        y = self.convolution(x, harmonics, basis, edge_index, num_local)
        x = x if num_local is None else x[:num_local]
        if self.species_connection is not None:
            y = y + self.species_connection(x, groups)
        elif self.linear_connection is not None:
            y = y + self.linear_connection(x)
        if self.square is not None:
            y = self.square(y)
        return self.gate(self.norm(y))


class SpeciesFactors(Constants):
    """What depends on the species at the ends of an edge: how distances stretch and how messages are divided."""

    stretch: Tensor
    sender: Tensor

    def __init__(self, config: NequIPConfig):
        super().__init__()
        self.add_constant("stretch", config.cutoff / config.pair_cutoff_matrix())
        numbers = config.neighbors_per_species or dict.fromkeys(config.species, 1.0)
        numbers_in_order = torch.tensor([numbers[symbol] for symbol in config.species], dtype=torch.float64)
        self.add_constant("sender", numbers_in_order.rsqrt())


class NequIP(Network):
    """Edge vectors and species to equivariant features of atoms.

    1. Embed species as even scalars.
    2. Spherical harmonics of the edge directions (or vectors); Bessel functions of the lengths times a smooth cutoff.
    3. ``num_layers`` interactions: convolution over neighbours, self-connection, (square,) gate.

    What the features mean is for read-outs to say.

    References
    ----------
    Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv:2101.03164, fig. 1.
    """

    def __init__(self, config: NequIPConfig, keep: Sequence[Irrep] = ()):
        super().__init__()
        self.config = config
        self.harmonics = SphericalHarmonics(config.l_max, config.parity)
        self.factors = SpeciesFactors(config)
        self.basis = BesselBasis(config.cutoff, config.num_radial, config.trainable_radial)
        if config.cutoff_function == "polynomial":
            self.cutoff: nn.Module = PolynomialCutoff(config.cutoff, config.polynomial_p)
        else:
            self.cutoff = XPLORCutoff(config.cutoff, config.xplor_onset or 0.0)
        per_layer = config.layer_irreps(keep)
        irreps = Irreps([(config.num_embedding or per_layer[0].count("0e"), (0, 1))])
        self.embedding = nn.Parameter(torch.randn(len(config.species), irreps.dim, dtype=torch.float64))
        self.layers = nn.ModuleList()
        for k, hidden in enumerate(per_layer):
            connection = config.self_connection if k or config.first_self_connection else "none"
            layer = NequIPLayer(config, irreps, self.harmonics.irreps, hidden, connection)
            self.layers.append(layer)
            irreps = layer.irreps_out
        self.irreps_out = irreps

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, exchange: Exchange | None = None
    ) -> Tensor:
        """Features of every atom; see :meth:`Network.forward`."""
        r = torch.linalg.vector_norm(edge_vectors, dim=1)
        harmonics = self.harmonics(edge_vectors if self.config.solid_harmonics else edge_vectors / r.unsqueeze(1))
        if self.config.pair_cutoffs:
            r = r * self.factors.stretch[species[edge_index[0]], species[edge_index[1]]]
        if self.config.neighbors_per_species:  # the product with the harmonics is linear in them
            harmonics = harmonics * self.factors.sender[species[edge_index[1]]].unsqueeze(1)
        basis = self.basis(r) * self.cutoff(r).unsqueeze(1)
        num_local = None if exchange is None else exchange.num_local
        groups = group_by_species(species[:num_local])
        x = self.embedding.index_select(0, species)
        for k, layer in enumerate(self.layers):
            if exchange is not None and k > 0:
                x = exchange(x)
            x = layer(x, groups, harmonics, basis, edge_index, num_local)
        return x
