"""The definition of the tensor-product convolution, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_equivariant.kernels.plan import ConvPlan
from ase_equivariant.kernels.tables import PlanTables


def tensor_product_conv(
    node_features: Tensor, harmonics: Tensor, weights: Tensor, edge_index: Tensor, plan: ConvPlan, tables: PlanTables
) -> Tensor:
    """Sum over neighbours of weighted products of their features with spherical harmonics.

    ``out[i, m3, u] = Σ_{edges i→j} Σ_{m1, m2} w[e, p, u] · √(2·l3+1) · C[m1, m2, m3] · x[j, m1, u] · Y[e, m2]``

    for every path p = (l1, l2 → l3), eq. (8) of the NequIP paper without the sum over
    paths, which the linear layer behind it takes. Trilinear in features, harmonics and
    weights, and differentiable to any order.

    Parameters
    ----------
    node_features : Tensor
        (N, plan.irreps_in.dim), component-major.
    harmonics : Tensor
        (E, plan.irreps_sh.dim), spherical harmonics of the edge directions.
    weights : Tensor
        (E, plan.num_weights), from the radial network.
    edge_index : Tensor
        (2, E), row 0 the receiving centre, row 1 the sending neighbour.
    plan : ConvPlan
        Which paths are taken.
    tables : PlanTables
        The plan's constants on the device and in the dtype of the inputs.

    Returns
    -------
    Tensor
        (N, plan.irreps_out.dim), component-major.

    References
    ----------
    Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv:2101.03164; Thomas et al., arXiv:1802.08219.
    """
    centre, neighbour = edge_index
    num_atoms, num_edges = node_features.shape[0], neighbour.shape[0]
    sums = []
    for group, coupling, path_of_component in zip(
        plan.by_source, tables.couplings, tables.path_of_component, strict=True
    ):
        source, first = group[0].source, group[0].weight_offset
        x = source.view(node_features).index_select(0, neighbour)  # (E, 2·l1+1, u)
        matrices = (harmonics @ coupling).view(
            num_edges, len(path_of_component), source.num_components
        )  # (E, Σ(2·l3+1), 2·l1+1)
        w = weights[:, first : first + len(group) * source.mul].view(num_edges, len(group), source.mul)
        messages = torch.bmm(matrices, x) * w.index_select(1, path_of_component)  # (E, Σ(2·l3+1), u)
        sums.append(messages.new_zeros(num_atoms, *messages.shape[1:]).index_add(0, centre, messages).flatten(1))
    return torch.cat(sums, dim=1).index_select(1, tables.out_order)
