"""Geometric vector perceptrons: layers on pairs of scalars (…, n) and vectors (…, 3, ν).

Vectors are polar. Their channels are last, as everywhere in this package, so that what acts on channels is a
matrix product from the right; the papers write the transpose, V ∈ R^(ν × 3).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ase_equivariant.nn.activations import ACTIVATIONS, SECOND_MOMENT

# c with E[(c·sigmoid(z))²] = 1 for standard normal z.
SIGMOID_GAIN = 1.8462285453386054


def smooth_norm(vectors: Tensor, smoothing: float) -> Tensor:
    """``√(|v|² + ε²) − ε`` of vectors (…, 3, ν), (…, ν): zero for zero vectors, and differentiable there.

    The authors clamp |v|² at 1e-8 from below, which leaves a kink. A plain norm has a cone at zero, and zero is no
    accident: by symmetry it is where every vector of an atom in a perfect crystal lies. Small vectors, against ε,
    count as their square.
    """
    return (vectors.square().sum(dim=-2) + smoothing**2).sqrt() - smoothing


class GVP(nn.Module):
    """``(s, V) → (s', V')``, linear combinations of vectors, their norms, and functions of scalars.

    1. V_h = V W_h, V_μ = V_h W_μ
    2. s_m = concat(s, ‖V_h‖) W_m + b_m
    3. s' = σ(s_m)
    4. V' = V_μ ⊙ σ_g(s_m W_g + b_g), one gate for each vector

    σ is silu and σ_g the sigmoid, both scaled to unit second moment; weights start standard normal and are divided
    by √fan-in, biases start at zero. Every operation commutes with O(3).

    Parameters
    ----------
    scalars_in, vectors_in : int
        n and ν; at least one vector.
    scalars_out, vectors_out : int
        Without output vectors steps W_μ and 4 are left out.
    activated : bool
        Whether σ is applied; if not, s' = s_m.
    smoothing : float
        ε of :func:`smooth_norm`.

    References
    ----------
    Jing et al., arXiv:2009.01411, algorithm 1; the gate of step 4 is that of arXiv:2106.03843, algorithm 1, with
    σ⁺ the identity.
    """

    def __init__(
        self,
        scalars_in: int,
        vectors_in: int,
        scalars_out: int,
        vectors_out: int,
        *,
        activated: bool = True,
        smoothing: float = 0.1,
    ):
        super().__init__()
        if vectors_in < 1:
            raise ValueError(f"a GVP of {vectors_in} vectors is a perceptron of scalars: give it one vector or more")
        hidden = max(vectors_in, vectors_out)
        self.scalars_in, self.vectors_out = scalars_in, vectors_out
        self.activated, self.smoothing = activated, smoothing
        self.w_h = _normal(vectors_in, hidden)
        self.w_m, self.b_m = _normal(scalars_in + hidden, scalars_out), _zeros(scalars_out)
        if vectors_out:
            self.w_mu = _normal(hidden, vectors_out)
            self.w_g, self.b_g = _normal(scalars_out, vectors_out), _zeros(vectors_out)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Map (…, scalars_in) and (…, 3, vectors_in) to (…, scalars_out) and (…, 3, vectors_out)."""
        for_scalars, for_norms = self.split_w_m()
        return self.finish(scalars @ for_scalars, vectors @ scaled(self.w_h), for_norms)

    def split_w_m(self) -> tuple[Tensor, Tensor]:
        """The rows of W_m / √fan-in that scalars meet, and those that norms meet."""
        w_m = scaled(self.w_m)
        return w_m[: self.scalars_in], w_m[self.scalars_in :]

    def finish(self, from_scalars: Tensor, v_h: Tensor, for_norms: Tensor) -> tuple[Tensor, Tensor]:
        """The rest, given the scalars' share of s_m (…, scalars_out), V_h (…, 3, hidden) and the norms' rows of W_m."""
        s_m = from_scalars + torch.nn.functional.linear(smooth_norm(v_h, self.smoothing), for_norms.mT, self.b_m)
        scalars = SECOND_MOMENT["silu"] * ACTIVATIONS["silu"](s_m) if self.activated else s_m
        if not self.vectors_out:
            return scalars, v_h[..., :0]
        gates = torch.sigmoid(torch.nn.functional.linear(s_m, scaled(self.w_g).mT, self.b_g))
        return scalars, (v_h @ scaled(self.w_mu, SIGMOID_GAIN)) * gates.unsqueeze(-2)


class EdgeGVP(nn.Module):
    """A :class:`GVP` of ``concat(s_i, s_j, s_e)`` and ``concat(V_i, V_j, V_e)``: of an edge and its two ends.

    W_m and W_h meet a concatenation, so each of their parts is applied where its input lives: those of s_i, s_j,
    V_i, V_j once for every atom, before they are copied to the edges.

    Parameters
    ----------
    scalars, vectors : int
        Of an atom; there may be no vectors.
    edge_scalars, edge_vectors : int
        Of an edge.
    scalars_out, vectors_out, activated, smoothing
        As in :class:`GVP`.
    """

    def __init__(
        self,
        scalars: int,
        vectors: int,
        edge_scalars: int,
        edge_vectors: int,
        scalars_out: int,
        vectors_out: int,
        *,
        activated: bool = True,
        smoothing: float = 0.1,
    ):
        super().__init__()
        self.scalar_parts = [scalars, scalars, edge_scalars]
        self.vector_parts = [vectors, vectors, edge_vectors]
        self.perceptron = GVP(
            sum(self.scalar_parts),
            sum(self.vector_parts),
            scalars_out,
            vectors_out,
            activated=activated,
            smoothing=smoothing,
        )

    def forward(
        self, scalars: Tensor, vectors: Tensor, edge_scalars: Tensor, edge_vectors: Tensor, edge_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map features of atoms (N, n), (N, 3, ν) and edges (E, n_e), (E, 3, ν_e) to messages (E, …), (E, 3, …)."""
        centre, neighbour = edge_index
        for_scalars, for_norms = self.perceptron.split_w_m()
        m_i, m_j, m_e = for_scalars.split(self.scalar_parts)
        h_i, h_j, h_e = scaled(self.perceptron.w_h).split(self.vector_parts)
        s_m = (scalars @ m_i).index_select(0, centre) + (scalars @ m_j).index_select(0, neighbour) + edge_scalars @ m_e
        v_h = edge_vectors @ h_e
        if vectors.shape[-1]:
            v_h = v_h + (vectors @ h_i).index_select(0, centre) + (vectors @ h_j).index_select(0, neighbour)
        return self.perceptron.finish(s_m, v_h, for_norms)


def _normal(fan_in: int, fan_out: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(fan_in, fan_out, dtype=torch.float64))


def _zeros(size: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(size, dtype=torch.float64))


def scaled(weight: Tensor, gain: float = 1.0) -> Tensor:
    """``gain · W / √fan-in``, the matrix that a weight (fan-in, fan-out) stands for."""
    return weight * (gain / math.sqrt(weight.shape[0]))
