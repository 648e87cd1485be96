"""The equivariant nonlinearity: scalars are activated, everything else is gated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ase_equivariant.irreps import Irreps, blocks, merge, scalar_slice
from ase_equivariant.nn.activations import ACTIVATIONS, SECOND_MOMENT


class Gate(nn.Module):
    """Even scalars through silu, odd scalars through tanh, each other channel times silu of its own gate.

    A nonlinearity may act on scalars only without breaking equivariance; a channel of
    degree l > 0 is multiplied by an activated even scalar that the layer before supplies.
    tanh is odd, so odd scalars stay odd.

    The input ``irreps_in`` are those of the output with one even scalar more for every
    gated channel. The even block holds first the scalars, then the gates in the order
    of the gated blocks.

    Parameters
    ----------
    irreps_out : Irreps
        Merged irreps of the output.

    References
    ----------
    Weiler et al., arXiv:1807.02547; NequIP, arXiv:2101.03164, "Nonlinearity".
    """

    def __init__(self, irreps_out: Irreps):
        super().__init__()
        self.irreps_out = merge(irreps_out)
        self.num_gates = sum(mul for mul, ir in self.irreps_out if ir.l > 0)
        self.irreps_in = merge(Irreps([(self.num_gates, (0, 1)), *self.irreps_out]))
        self.num_scalars = self.irreps_out.count("0e")
        self.even_slice = scalar_slice(self.irreps_in)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, irreps_in.dim) to (N, irreps_out.dim)."""
        even = SECOND_MOMENT["silu"] * ACTIVATIONS["silu"](features[:, self.even_slice])
        first_gate, outputs = self.num_scalars, []
        for block in blocks(self.irreps_in):
            if block.l == 0 and block.p == 1:
                outputs.append(even[:, : self.num_scalars])
            elif block.l == 0:
                outputs.append(SECOND_MOMENT["tanh"] * ACTIVATIONS["tanh"](features[:, block.slice]))
            else:
                gates = even[:, first_gate : first_gate + block.mul].unsqueeze(1)
                outputs.append((block.view(features) * gates).flatten(1))
                first_gate += block.mul
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
