"""Radial tables of a network's layers, all of as many intervals as the least smooth of them takes."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from ase_equivariant.architectures.nequip import NequIP, NequIPLayer
from ase_equivariant.potential.tabulate import RadialTable, TabulationError, knot_unit, tabulate

DEGREE = {torch.float32: 3, torch.float64: 5}  # of the polynomials, by precision
# Relative errors of tabulated weights and of their slopes. In single precision forces of the shipped models are then
# within 4e-5 eV/Å of float64's, those of the eager model within 1.4e-5: the largest of 12 structures of each model's
# data, displaced by 0.03 Å.
_BOUNDS = {torch.float32: (2e-7, 2e-5), torch.float64: (1e-11, 1e-9)}
_FEWEST, _MOST = 256, 8192  # intervals


def radial_tables(network: NequIP, dtype: torch.dtype) -> list[RadialTable]:
    """Radial weights of every layer, with what multiplies them that depends on the distance alone.

    Parameters
    ----------
    network : NequIP
        In float64.
    dtype : torch.dtype
        Of the evaluation that the tables are for: decides degree and errors.

    Raises
    ------
    TabulationError
        If too many intervals would be needed.
    """
    config, degree, (value_bound, slope_bound) = network.config, DEGREE[dtype], _BOUNDS[dtype]
    breakpoints = (config.xplor_onset,) if config.cutoff_function == "xplor" and config.xplor_onset else ()
    unit = knot_unit(config.cutoff, breakpoints)
    intervals = unit * math.ceil(_FEWEST / unit)
    while intervals <= _MOST:
        tables: list[RadialTable] = []
        for layer in cast("list[NequIPLayer]", list(network.layers)):

            def radial(r: Tensor, layer: NequIPLayer = layer) -> Tensor:
                weights = layer.convolution.radial(network.basis(r) * network.cutoff(r).unsqueeze(1))
                return weights * r.unsqueeze(1).pow(solid_degrees(layer)) if config.solid_harmonics else weights

            tables.append(tabulate(radial, config.cutoff, intervals, degree, breakpoints))
            value_excess, slope_excess = tables[-1].value_error / value_bound, tables[-1].slope_error / slope_bound
            if value_excess > 1 or slope_excess > 1:
                break
        else:
            return tables
        # Errors of values fall with the (degree + 1)th power of the intervals, those of slopes with one power less.
        growth = max(value_excess ** (1 / (degree + 1)), slope_excess ** (1 / degree))
        intervals = unit * math.ceil(intervals * min(max(growth, 1.1), 4) / unit)
    raise TabulationError(
        f"they change too fast for {_MOST} intervals "
        f"(relative errors {tables[-1].value_error:.1e}, {tables[-1].slope_error:.1e})"
    )


def solid_degrees(layer: NequIPLayer) -> Tensor:
    """(W,) degree of the harmonic that each radial weight multiplies."""
    return torch.cat([torch.full((path.source.mul,), path.harmonic.l) for path in layer.convolution.plan.paths])
