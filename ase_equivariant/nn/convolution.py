"""The interatomic convolution: linear, tensor product with the neighbours, linear."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from ase_equivariant.irreps import Irreps
from ase_equivariant.kernels import ConvPlan, PlanTables, tensor_product_conv
from ase_equivariant.nn.linear import Linear
from ase_equivariant.nn.mlp import ScalarMLP


class Convolution(nn.Module):
    """``x → L_2( Σ_j R(r_ij) Y(r̂_ij) ⊗ (L_1 x)_j / √⟨neighbours⟩ )``.

    Parameters
    ----------
    irreps_in, irreps_sh, irreps_out : Irreps
        Merged irreps of the node features, of the harmonics and of the result.
    radial_sizes : sequence of int
        Number of basis functions and hidden widths of the radial network.
    avg_num_neighbors : float
        Mean number of neighbours in the training data; its root keeps activations of unit variance.
    scalar_bias : bool
        Whether L_1 and L_2 add a constant to even scalars.

    References
    ----------
    NequIP, arXiv:2101.03164, eqs. (7)-(8).
    """

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_sh: Irreps,
        irreps_out: Irreps,
        radial_sizes: Sequence[int],
        avg_num_neighbors: float,
        scalar_bias: bool = False,
    ):
        super().__init__()
        self.plan = ConvPlan(irreps_in, irreps_sh, irreps_out)
        self.tables = PlanTables(self.plan)
        self.linear_in = Linear(irreps_in, irreps_in, scalar_bias)
        self.radial = ScalarMLP([*radial_sizes, self.plan.num_weights])
        self.linear_out = Linear(self.plan.irreps_out, irreps_out, scalar_bias)
        self.normalization = 1 / math.sqrt(avg_num_neighbors)

    def forward(
        self, features: Tensor, harmonics: Tensor, basis: Tensor, edge_index: Tensor, num_local: int | None = None
    ) -> Tensor:
        """Map features (N, irreps_in.dim) to (N, irreps_out.dim).

        ``harmonics`` (E, irreps_sh.dim), ``basis`` (E, num_radial) with the cutoff in it,
        ``edge_index`` (2, E). Where only the first ``num_local`` atoms are centres, the result is theirs.
        """
        messages = tensor_product_conv(
            self.linear_in(features), harmonics, self.radial(basis), edge_index, self.plan, self.tables
        )
        if num_local is not None:
            messages = messages[:num_local]
        return self.linear_out(self.normalization * messages)
