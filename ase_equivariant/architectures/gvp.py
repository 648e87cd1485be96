"""GVP: message passing with geometric vector perceptrons on pairs of scalars and vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ase_equivariant.architectures.base import ArchitectureConfig, Exchange, Network
from ase_equivariant.irreps import Irrep, Irreps
from ase_equivariant.nn.gvp import GVP, EdgeGVP
from ase_equivariant.nn.radial import BesselBasis, PolynomialCutoff


class GVPConfig(ArchitectureConfig):
    """Hyper-parameters of :class:`GVPNetwork`; those of every architecture come first.

    Attributes
    ----------
    num_layers : int
        Rounds of messages, the receptive field in units of the cutoff.
    num_scalars, num_vectors : int
        Channels of an atom.
    vectors_out : int
        Vectors that the last layer gives beside the scalars; the energy reads scalars only. If it is 0 and a read-out
        takes vectors, as many as there are inside.
    edge_scalars, edge_vectors : int
        Channels of an edge.
    message_depth : int
        GVPs in the function that makes messages.
    num_radial : int
        Bessel functions.
    trainable_radial : bool
        Whether their wave numbers are fitted.
    polynomial_p : float
        Exponent of the smooth cutoff.
    smoothing : float
        Length (in units of features) below which norms of vectors turn into squares, so that energies have all
        derivatives where vectors vanish, as they do in crystals.
    """

    name: Literal["gvp"] = "gvp"
    num_layers: int = Field(default=3, ge=1)
    num_scalars: int = Field(default=64, ge=1)
    num_vectors: int = Field(default=16, ge=1)
    vectors_out: int = Field(default=0, ge=0)
    edge_scalars: int = Field(default=32, ge=1)
    edge_vectors: int = Field(default=1, ge=1)
    message_depth: int = Field(default=3, ge=1)
    num_radial: int = Field(default=8, ge=1)
    trainable_radial: bool = True
    polynomial_p: float = Field(default=6.0, ge=2)
    smoothing: float = Field(default=0.1, gt=0, allow_inf_nan=False)

    def summary(self) -> str:
        """The network's size in a few words, for people."""
        return f"{self.num_layers} layers, {self.num_scalars} scalars, {self.num_vectors} vectors"

    def cure_for_lack_of(self, irreps: Sequence[Irrep]) -> str:
        """Another network: what this one has it has always."""
        return 'GVP has scalars and polar vectors only (0e and 1o): take model.architecture.name = "nequip"'

    def pair_cutoff_matrix(self) -> Tensor:
        """Cutoff of every pair of species in Å, (n_species, n_species) float64: one for all."""
        return torch.full((len(self.species), len(self.species)), self.cutoff, dtype=torch.float64)


class GVPLayer(nn.Module):
    """One round: messages from the neighbours, then an update of every atom by itself; both are added to what it has.

    1. m_ij = u(r_ij) · g_m(s_i, s_j, s_e; V_i, V_j, V_e), g_m a chain of GVPs and u the cutoff
    2. (s, V)_i ← (s, V)_i + Σ_j m_ij / √⟨neighbours⟩
    3. (s, V)_i ← (s, V)_i + g_u((s, V)_i), g_u two GVPs, wider between

    Where the number of vectors changes (from none at first, to none at last) the new ones replace the old.

    The authors average over neighbours, which jumps when one leaves the cutoff, and normalize layers, by a length
    that may vanish; neither is done here.

    References
    ----------
    Jing et al., arXiv:2009.01411, graph propagation; arXiv:2106.03843.
    """

    def __init__(self, config: GVPConfig, vectors_in: int, vectors_out: int):
        super().__init__()
        n, v, depth, smoothing = config.num_scalars, config.num_vectors, config.message_depth, config.smoothing
        self.normalization = 1 / math.sqrt(config.avg_num_neighbors or 1.0)
        self.message = EdgeGVP(
            n, vectors_in, config.edge_scalars, config.edge_vectors, n, v, activated=depth > 1, smoothing=smoothing
        )
        self.message_rest = nn.ModuleList(
            GVP(n, v, n, v, activated=k < depth, smoothing=smoothing) for k in range(2, depth + 1)
        )
        self.update = nn.ModuleList(
            [
                GVP(n, v, 4 * n, 2 * v, smoothing=smoothing),
                GVP(4 * n, 2 * v, n, vectors_out, activated=False, smoothing=smoothing),
            ]
        )

    def forward(
        self,
        s: Tensor,
        v: Tensor,
        edge_scalars: Tensor,
        edge_vectors: Tensor,
        envelope: Tensor,
        edge_index: Tensor,
        num_local: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Map scalars (N, n) and vectors (N, 3, ν) of atoms to new ones, or those of the first ``num_local`` atoms.

        ``envelope`` (E,) vanishes at the cutoff.
        """
        m_s, m_v = self.message(s, v, edge_scalars, edge_vectors, edge_index)
        for gvp in self.message_rest:
            m_s, m_v = gvp(m_s, m_v)
        weight, centre = (self.normalization * envelope).unsqueeze(1), edge_index[0]
        if num_local is not None:
            s, v = s[:num_local], v[:num_local]
        s_shape, v_shape = (s.shape[0], *m_s.shape[1:]), (s.shape[0], *m_v.shape[1:])
        received_s = s.new_zeros(s_shape).index_add(0, centre, weight * m_s)
        received_v = s.new_zeros(v_shape).index_add(0, centre, weight.unsqueeze(2) * m_v)
        s, v = _add(s, v, received_s, received_v)
        change_s, change_v = s, v
        for gvp in self.update:
            change_s, change_v = gvp(change_s, change_v)
        return _add(s, v, change_s, change_v)


def _add(s: Tensor, v: Tensor, change_s: Tensor, change_v: Tensor) -> tuple[Tensor, Tensor]:
    return s + change_s, v + change_v if v.shape == change_v.shape else change_v


def _exchanged(s: Tensor, v: Tensor, exchange: Exchange) -> tuple[Tensor, Tensor]:
    """Scalars and vectors of ghosts, too, by one exchange."""
    features = exchange(torch.cat([s, v.flatten(1)], dim=1))
    return features[:, : s.shape[1]], features[:, s.shape[1] :].unflatten(1, v.shape[1:])


class GVPNetwork(Network):
    """Edge vectors and species to scalars and vectors of atoms.

    1. Embed species as scalars; there are no vectors yet.
    2. Embed edges by one GVP of Bessel functions of the length and the direction.
    3. ``num_layers`` rounds of messages and updates.

    What the features mean is for read-outs to say: the energy is the sum of a perceptron of each atom's scalars; a
    sum of the vectors is a polar vector, such as a dipole.

    References
    ----------
    Jing et al., arXiv:2009.01411 and arXiv:2106.03843.
    """

    def __init__(self, config: GVPConfig, keep: Sequence[Irrep] = ()):
        super().__init__()
        self.config = config
        self.vectors_out = config.vectors_out or (config.num_vectors if Irrep("1o") in keep else 0)
        self.basis = BesselBasis(config.cutoff, config.num_radial, config.trainable_radial)
        self.cutoff = PolynomialCutoff(config.cutoff, config.polynomial_p)
        self.embedding = nn.Parameter(torch.randn(len(config.species), config.num_scalars, dtype=torch.float64))
        self.edge_embedding = GVP(
            config.num_radial, 1, config.edge_scalars, config.edge_vectors, smoothing=config.smoothing
        )
        last, v = config.num_layers - 1, config.num_vectors
        self.layers = nn.ModuleList(
            GVPLayer(config, v if k > 0 else 0, v if k < last else self.vectors_out) for k in range(config.num_layers)
        )
        vectors = [(self.vectors_out, (1, -1))] if self.vectors_out else []
        self.irreps_out = Irreps([(config.num_scalars, (0, 1)), *vectors])

    def forward(
        self, species: Tensor, edge_index: Tensor, edge_vectors: Tensor, exchange: Exchange | None = None
    ) -> Tensor:
        """Features of every atom; see :meth:`Network.forward`."""
        r = torch.linalg.vector_norm(edge_vectors, dim=1)
        directions = (edge_vectors / r.unsqueeze(1)).unsqueeze(2)
        # Bessel functions are of the order of 1/cutoff; beside other scalars they must count as much.
        e_s, e_v = self.edge_embedding(self.config.cutoff * self.basis(r), directions)
        envelope = self.cutoff(r)
        s = self.embedding.index_select(0, species)
        v = s.new_zeros(s.shape[0], 3, 0)
        num_local = None if exchange is None else exchange.num_local
        for k, layer in enumerate(self.layers):
            if exchange is not None and k > 0:
                s, v = _exchanged(s, v, exchange)
            s, v = layer(s, v, e_s, e_v, envelope, edge_index, num_local)
        return torch.cat([s, v.flatten(1)], dim=1) if self.vectors_out else s
