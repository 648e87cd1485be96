"""A potential's parameters as the compiled training code reads them, differentiable."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from ase_equivariant.architectures.nequip import NequIP, NequIPLayer
from ase_equivariant.potential.potential import Potential
from ase_equivariant.potential.radial_tables import solid_degrees
from ase_equivariant.potential.training_layout import SPLINE_MARGIN, TrainingLayout

# Rows at a knot, at its neighbours and theirs to the coefficient there: the cubic B-spline with these coefficients is
# as close to a smooth function as the interpolating one to terms of fourth order in the spacing.
_STENCIL = (54 / 36, -10 / 36, 1 / 36)
_MARGIN = len(_STENCIL) - 1
_NEAREST = 0.01  # Å; radial functions are even in the distance, and sin(kr)/r is not evaluated at 0


class Packing:
    """Called, gives the pieces of :attr:`TrainingLayout.memory` in order, made of the potential's parameters."""

    def __init__(self, layout: TrainingLayout, potential: Potential, num_intervals: int):
        self._layout, self._potential = layout, potential
        self._parameters = list(potential.parameters())
        self._network = cast(NequIP, potential.network)
        config, rows = self._network.config, num_intervals + SPLINE_MARGIN + 2 * _MARGIN
        r = (torch.arange(rows, dtype=torch.float64) - 1 - _MARGIN) * (config.cutoff / num_intervals)
        self._r = r.abs().clamp(min=_NEAREST).to(potential.dtype)
        self._powers = [self._solid_powers(layer) for layer in self._layers] if config.solid_harmonics else None
        self._groups = [(s, torch.tensor([s])) for s in range(len(config.species))]

    @property
    def _layers(self) -> list[NequIPLayer]:
        return cast("list[NequIPLayer]", list(self._network.layers))

    def _solid_powers(self, layer: NequIPLayer) -> Tensor:
        """r^l at the knots for each radial weight, l of the harmonic that it multiplies."""
        return self._r.unsqueeze(1).pow(solid_degrees(layer))

    def __call__(self) -> list[Tensor]:
        """Linear layers (L,), the table of each layer (rows, columns), rows by species."""
        layout = self._layout
        flat = torch.cat([p.reshape(-1) for p in self._parameters])
        linear = _Gather.apply(flat, layout.index, layout.factor, layout.inverse, layout.inverse_factor)
        return [linear, *self._tables(), *self._species_rows()]

    def _tables(self) -> list[Tensor]:
        network = self._network
        basis = network.basis(self._r) * network.cutoff(self._r).unsqueeze(1)
        tables = []
        for k, layer in enumerate(self._layers):
            radial = layer.convolution.radial
            if self._powers is None:  # the last map is linear: fewer columns before it than behind
                weights = radial.last(_coefficients(radial.hidden(basis)))
            else:
                weights = _coefficients(radial(basis) * self._powers[k])
            columns = self._layout.table_columns[k]
            if len(columns) != weights.shape[1]:
                weights = torch.nn.functional.pad(weights, (0, 1)).index_select(1, columns)
            tables.append(weights)
        return tables

    def _species_rows(self) -> list[Tensor]:
        """x and the self-connection of the first layer depend on the species alone."""
        network, layer = self._network, self._layers[0]
        rows = [layer.convolution.linear_in(network.embedding) * network.factors.sender.unsqueeze(1)]
        if layer.species_connection is not None:
            rows.append(layer.species_connection(network.embedding, self._groups))
        elif layer.linear_connection is not None:
            rows.append(layer.linear_connection(network.embedding))
        layout = self._layout
        return [
            row.new_zeros(len(row), width).index_copy(1, places, row)
            for row, width, places in zip(rows, layout.species_widths, layout.species_places, strict=True)
        ]


def _coefficients(rows: Tensor) -> Tensor:
    """Of splines, (knots, columns), of functions at the knots and at two more on either side."""
    knots = len(rows) - 2 * _MARGIN
    at = [rows[k : k + knots] for k in range(2 * _MARGIN + 1)]
    result = _STENCIL[0] * at[_MARGIN]
    for k, weight in enumerate(_STENCIL[1:], 1):
        result = result.add(at[_MARGIN - k] + at[_MARGIN + k], alpha=weight)
    return result


class _Gather(torch.autograd.Function):
    """``factor · flat[index]``, whose gradient is gathered as well: each parameter has one place."""

    @staticmethod
    def forward(
        ctx: Any, flat: Tensor, index: Tensor, factor: Tensor, inverse: Tensor, inverse_factor: Tensor
    ) -> Tensor:
        ctx.save_for_backward(inverse, inverse_factor)
        return flat.index_select(0, index).mul_(factor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inverse, inverse_factor = ctx.saved_tensors
        return gradient.index_select(0, inverse).mul_(inverse_factor), None, None, None, None
