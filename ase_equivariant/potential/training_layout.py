"""Where each weight goes in the memory that the compiled training code reads, and back."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_equivariant.architectures.nequip import NequIP, NequIPLayer
from ase_equivariant.kernels import network as native
from ase_equivariant.potential.freeze import NetworkBuilder
from ase_equivariant.potential.padding import PaddedRow
from ase_equivariant.potential.potential import Potential
from ase_equivariant.potential.tabulate import RadialTable

SPLINE_MARGIN = 3  # more basis functions than intervals
Kind = Literal["linear", "table", "species"]


class _Layout(NetworkBuilder):
    """Structs of ``csrc/network.h`` over one piece of memory: linear layers, then tables, then rows by species."""

    def __init__(self, potential: Potential, num_intervals: int, level: int, memory: Tensor, starts: dict[Kind, int]):
        self.num_intervals, self._memory, self._starts = num_intervals, memory, starts
        self.used: Counter[Kind] = Counter()
        self.linear: list[NDArray[np.float64]] = []
        self.table_columns: list[Tensor] = []
        self.species_places: list[Tensor] = []
        super().__init__(potential, memory.dtype, level)  # precision of the memory: it decides the padding

    @staticmethod
    def _numbers_per_weight(dtype: torch.dtype) -> int:
        return 1

    def _place(self, kind: Kind, size: int) -> int:
        """Address of the next free numbers of a kind."""
        at = self._starts[kind] + self.used[kind]
        self.used[kind] += size
        return int(self._memory.data_ptr()) + at * self.real.itemsize

    def _array(self, values: NDArray) -> int:
        self.linear.append(np.asarray(values, dtype=np.float64).ravel())
        return self._place("linear", values.size)

    def _tables(self, network: NequIP, dtype: torch.dtype) -> list[Any]:
        return [None] * len(network.layers)

    def _table(self, table: RadialTable, columns: NDArray[np.int64]) -> int:
        self.table_columns.append(torch.from_numpy(columns))
        return self._place("table", (self.num_intervals + SPLINE_MARGIN) * len(columns))

    def _first_layer(
        self,
        target: native.NetworkLayer,
        network: NequIP,
        layer: NequIPLayer,
        connection: Any,
        x_row: PaddedRow,
        pre_row: PaddedRow,
    ) -> None:
        species = len(network.embedding)
        target.first_x = self._place("species", species * x_row.dim)
        self.species_places.append(torch.from_numpy(x_row.places()))
        if connection is not None:
            target.first_pre = self._place("species", species * pre_row.dim)
            self.species_places.append(torch.from_numpy(pre_row.places()))
        self.species_widths = [x_row.dim, pre_row.dim][: len(self.species_places)]


class TrainingLayout:
    """The structs, their memory, and how the weights lie in it.

    An entry of the linear layers' part is one parameter times a factor, or zero. Which one, is read off by laying out
    parameters that are all one, and all their own positions.

    Parameters
    ----------
    potential : Potential
        What :class:`~ase_equivariant.potential.trainable.TrainablePotential` takes.
    num_intervals : int
        Of the splines.
    level : int
        Instruction set, see :func:`ase_equivariant.kernels.network.best_level`.

    Attributes
    ----------
    network : native.Network
        The struct.
    memory : Tensor
        Of the potential's dtype: linear layers, tables (num_intervals + 3 rows each), rows by species.
    index, factor : Tensor
        (L,) of the first part: positions among all parameters laid end to end, and numbers.
    inverse, inverse_factor : Tensor
        (P,) where the parameters' gradients are found in the first part; factor zero for those that are not in it.
    table_columns : list of Tensor
        For each layer which weight stands where in a row of its table; one past the last for none.
    species_places, species_widths : list
        For x of the first layer, and its self-connection if there is one: where each element of a row goes; its length.
    level, real
        Instruction set and numpy dtype.
    """

    def __init__(self, potential: Potential, num_intervals: int, level: int):
        self.level = level
        nothing = torch.empty(0, dtype=potential.dtype)
        starts: dict[Kind, int] = {"linear": 0, "table": 0, "species": 0}
        ones, positions = (
            _Layout(_filled(potential, with_positions), num_intervals, self.level, nothing, starts)
            for with_positions in (False, True)
        )
        factor, products = np.concatenate(ones.linear), np.concatenate(positions.linear)
        there = factor != 0
        index = np.rint(np.divide(products, factor, where=there, out=np.ones_like(factor))).astype(np.int64) - 1
        used = ones.used
        starts |= {"table": used["linear"], "species": used["linear"] + used["table"]}
        self.memory = torch.zeros(sum(used.values()), dtype=potential.dtype)
        self._kept = _Layout(potential, num_intervals, self.level, self.memory, starts)
        self.network, self.real = self._kept.network, self._kept.real
        self.table_columns = self._kept.table_columns
        self.species_places, self.species_widths = self._kept.species_places, self._kept.species_widths
        count = sum(p.numel() for p in potential.parameters())
        self.index, self.factor = torch.from_numpy(index), torch.from_numpy(factor).to(potential.dtype)
        # A matrix stands there twice, the second time transposed, where no gradient is.
        parameters, first = np.unique(np.where(there, index, count), return_index=True)
        first, parameters = first[parameters < count], parameters[parameters < count]
        inverse, inverse_factor = np.zeros(count, dtype=np.int64), np.zeros(count)
        inverse[parameters], inverse_factor[parameters] = first, factor[first]
        self.inverse = torch.from_numpy(inverse)
        self.inverse_factor = torch.from_numpy(inverse_factor).to(potential.dtype)


def _filled(potential: Potential, with_positions: bool) -> Potential:
    """A copy in float64 whose parameters are all one, or their positions from one on."""
    copy, start = deepcopy(potential).double().requires_grad_(False), 1
    for p in copy.parameters():
        p.copy_(torch.arange(start, start + p.numel()).view_as(p) if with_positions else torch.ones_like(p))
        start += p.numel()
    return copy
