"""A potential with fixed weights as the structs and arrays that the compiled code reads."""

from __future__ import annotations

import ctypes
import math
from copy import deepcopy
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_equivariant.architectures.nequip import NequIP, NequIPLayer
from ase_equivariant.irreps import Irrep, blocks, clebsch_gordan
from ase_equivariant.kernels import network as native
from ase_equivariant.nn.linear import Linear, SpeciesLinear
from ase_equivariant.nn.norm import EquivariantRMSNorm
from ase_equivariant.potential.padding import PaddedRow, pad_row, whole_vectors
from ase_equivariant.potential.potential import Potential
from ase_equivariant.potential.radial_tables import DEGREE, radial_tables
from ase_equivariant.potential.square_terms import square_terms
from ase_equivariant.potential.tabulate import RadialTable, TabulationError

L_MAX = 4
_EVEN = Irrep(0, 1)


class NotFreezableError(ValueError):
    """The compiled code cannot represent this potential; the message says why."""


def refuse_unsupported(potential: Potential, dtype: torch.dtype) -> None:
    """Raise :class:`NotFreezableError` unless the compiled code can evaluate the potential in this precision."""
    if native.best_level() < 0:
        raise NotFreezableError("there are no compiled kernels")
    if potential.device.type != "cpu" or dtype not in DEGREE:
        raise NotFreezableError(
            f"compiled code runs on the CPU in float32 or float64, not {dtype} on {potential.device}"
        )
    if type(potential.network) is not NequIP:
        raise NotFreezableError(f"there is no compiled code for {type(potential.network).__name__}")
    degrees = [ir.l for layer in _layers(potential.network) for _, ir in layer.convolution.plan.irreps_out]
    if max([potential.network.config.l_max, *degrees]) > L_MAX:
        raise NotFreezableError(f"degrees above {L_MAX} have no compiled code")
    if len(potential.network.layers) > native.MAX_LAYERS or len(potential.readout.mlp.weights) > native.MAX_HIDDEN:
        raise NotFreezableError(f"compiled code takes up to {native.MAX_LAYERS} layers")


def _layers(network: NequIP) -> list[NequIPLayer]:
    return cast("list[NequIPLayer]", list(network.layers))


class NetworkBuilder:
    """Fills the structs of ``csrc/network.h``; must live as long as they are used."""

    def __init__(self, potential: Potential, dtype: torch.dtype, level: int):
        double = deepcopy(potential).to(torch.float64).requires_grad_(False)
        network = double.network
        assert isinstance(network, NequIP)  # see refuse_unsupported
        self.real = np.dtype(str(dtype).removeprefix("torch."))
        self.lanes = native.lanes(level, self.real)
        self.cell = self._numbers_per_weight(dtype) * self.lanes  # of a table's row that one chunk of weights takes
        self.kept: list[Any] = []
        self.tables: list[
            NDArray
        ] = []  # (intervals, chunks, coefficients, lanes) of each layer, as the code reads them
        self.config = network.config
        tables = self._tables(network, dtype)
        layers = (native.NetworkLayer * len(network.layers))()
        input_row: PaddedRow | None = None
        for k, layer in enumerate(_layers(network)):
            input_row = self._layer(layers[k], network, layer, tables[k], input_row)
        assert input_row is not None
        steps, first = self._harmonics(network)
        hidden, last = self._readout(double, input_row)
        self.network = native.Network(
            num_layers=len(layers),
            l_max=self.config.l_max,
            layers=layers,
            steps_first=self._keep(np.asarray(first, dtype=np.int64)),
            steps=steps,
            cutoff=self.config.cutoff,
            num_species=len(self.config.species),
            stretch=self._keep(network.factors.stretch.numpy()) if self.config.pair_cutoffs else None,
            sender=self._keep(network.factors.sender.numpy()) if self.config.neighbors_per_species else None,
            num_intervals=self.num_intervals,
            num_hidden=len(hidden),
            hidden=hidden,
            readout_k=len(last),
            readout=self._array(last),
            scale=self._keep(potential.scaling.scale.numpy().copy()),
            shift=self._keep(potential.scaling.shift.numpy().copy()),
        )
        self.kept += [layers, steps, hidden]

    def _keep(self, array: NDArray) -> int:
        """Address of an array that is kept."""
        array = np.ascontiguousarray(array)
        self.kept.append(array)
        return array.ctypes.data

    def _array(self, values: NDArray) -> int:
        """Address of the values in the network's precision."""
        return self._keep(np.asarray(values).astype(self.real))

    def _structs(self, kind: type[ctypes.Structure], items: list[Any]) -> Any:
        array = (kind * len(items))(*items)
        self.kept.append(array)
        return array

    # _tables, _numbers_per_weight, _table, _array and _first_layer are other ones in training_layout.py.
    def _tables(self, network: NequIP, dtype: torch.dtype) -> list[RadialTable]:
        """Of all layers, with as many intervals as the precision is due."""
        try:
            tables = radial_tables(network, dtype)
        except TabulationError as error:
            raise NotFreezableError(f"the radial functions cannot be tabulated: {error}") from None
        self.num_intervals = len(tables[0].coefficients)
        self.table_error = (max(t.value_error for t in tables), max(t.slope_error for t in tables))
        return tables

    def _layer(
        self,
        target: native.NetworkLayer,
        network: NequIP,
        layer: NequIPLayer,
        table: RadialTable,
        input_row: PaddedRow | None,
    ) -> PaddedRow:
        """Describe one interaction; returns the layout of its result."""
        plan, gate = layer.convolution.plan, layer.gate
        x_row = pad_row(blocks(plan.irreps_in), self.lanes)
        conv_segments: dict[Irrep, list[int]] = {}
        for path in sorted(plan.paths, key=lambda path: path.channel_offset):
            conv_segments.setdefault(path.out.irrep, []).append(path.source.mul)
        conv_row = pad_row(blocks(plan.irreps_out), self.lanes, conv_segments)
        gated = [block.mul for block in blocks(gate.irreps_out) if block.l > 0]
        pre_row = pad_row(blocks(gate.irreps_in), self.lanes, {_EVEN: [gate.num_scalars, *gated]})
        out_row = pad_row(blocks(gate.irreps_out), self.lanes)

        target.dim_x, target.dim_conv, target.dim_pre, target.dim_out = (
            x_row.dim,
            conv_row.dim,
            pre_row.dim,
            out_row.dim,
        )
        self._paths(target, layer, table, x_row, conv_row)
        target.linear_out = self._linear(
            layer.convolution.linear_out, conv_row, pre_row, layer.convolution.normalization
        )
        connection = layer.species_connection if layer.species_connection is not None else layer.linear_connection
        if input_row is None:
            self._first_layer(target, network, layer, connection, x_row, pre_row)
        else:
            target.linear_in = self._linear(layer.convolution.linear_in, input_row, x_row)
            if connection is not None:
                target.self_connection = self._linear(connection, input_row, pre_row)
            if layer.convolution.linear_in.bias is not None:
                target.x_bias = self._bias(layer.convolution.linear_in.bias, x_row)
        if layer.convolution.linear_out.bias is not None:
            target.pre_bias = self._bias(layer.convolution.linear_out.bias, pre_row)
        self._square(target, layer, pre_row)
        self._norm(target, layer, pre_row)
        self._gate(target, layer, pre_row, out_row)
        return out_row

    def _first_layer(
        self,
        target: native.NetworkLayer,
        network: NequIP,
        layer: NequIPLayer,
        connection: Any,
        x_row: PaddedRow,
        pre_row: PaddedRow,
    ) -> None:
        """What depends on the species alone is computed here once."""
        embedding = network.embedding
        factors = network.factors.sender.numpy()[:, None]  # ones, unless the network has them
        target.first_x = self._array(factors * x_row.pad(layer.convolution.linear_in(embedding).numpy()))
        if connection is not None:
            groups = [(s, torch.tensor([s])) for s in range(len(embedding))]
            own = connection(embedding, groups) if isinstance(connection, SpeciesLinear) else connection(embedding)
            target.first_pre = self._array(pre_row.pad(own.numpy()))

    def _paths(
        self, target: native.NetworkLayer, layer: NequIPLayer, table: RadialTable, x_row: PaddedRow, conv_row: PaddedRow
    ) -> None:
        plan, paths, columns, offset = layer.convolution.plan, [], [], 0
        for path in plan.paths:
            source, out = x_row[path.source.irrep], conv_row[path.out.irrep]
            l1, l2, l3 = path.source.l, path.harmonic.l, path.out.l
            couplings = math.sqrt(2 * l3 + 1) * clebsch_gordan(l1, l2, l3).numpy()
            chunks = source.width // self.lanes
            paths.append(
                native.NetworkPath(
                    l1, l2, l3, chunks, source.offset, source.width, path.harmonic.offset,
                    out.offset + int(out.columns[path.channel_offset]), out.width, offset,
                    self._keep(couplings.astype(self.real)),
                )
            )  # fmt: skip
            padded = np.full(source.width, plan.num_weights)  # points at a column of zeros
            padded[: path.source.mul] = path.weight_offset + np.arange(path.source.mul)
            columns.append(padded)
            offset += chunks * self.cell
        target.num_paths, target.paths = len(paths), self._structs(native.NetworkPath, paths)
        target.table, target.table_row = self._table(table, np.concatenate(columns)), offset

    @staticmethod
    def _numbers_per_weight(dtype: torch.dtype) -> int:
        return DEGREE[dtype] + 1

    def _table(self, table: RadialTable, columns: NDArray[np.int64]) -> int:
        """Address of the table in the order the code reads it; ``columns`` says which weight goes where."""
        weights = np.concatenate([table.coefficients, np.zeros_like(table.coefficients[:, :, :1])], axis=2)
        chosen = weights.astype(self.real)[:, :, columns]
        chosen = chosen.reshape(*weights.shape[:2], -1, self.lanes).transpose(0, 2, 1, 3)
        address = self._keep(chosen)
        self.tables.append(self.kept[-1])
        return address

    def _linear(
        self, linear: Linear | SpeciesLinear, row_in: PaddedRow, row_out: PaddedRow, factor: float = 1.0
    ) -> native.Linear:
        """A layer with its matrices, and their transposes, in padded form, fan-in and ``factor`` multiplied in."""
        described = []
        species = linear.num_species if isinstance(linear, SpeciesLinear) else 1
        for source, out in linear.matches:
            if source is None:
                continue
            rows, columns = row_in[source.irrep], row_out[out.irrep]
            weight = linear.weights[str(out.irrep)].numpy().reshape(species, source.mul, out.mul)
            padded = np.zeros((species, rows.width, columns.width))
            padded[:, rows.columns[:, None], columns.columns] = weight * (factor / math.sqrt(source.mul * species))
            described.append(
                native.LinearBlock(
                    rows.components, rows.offset, rows.width, columns.offset, columns.width,
                    rows.width, rows.width, columns.width, self._array(padded), self._array(padded.transpose(0, 2, 1)),
                )
            )  # fmt: skip
        per_species = isinstance(linear, SpeciesLinear)
        return native.Linear(len(described), per_species, self._structs(native.LinearBlock, described))

    def _bias(self, bias: Tensor, row: PaddedRow) -> int:
        wide = np.zeros(row.dim)
        wide[row[_EVEN].positions()[0]] = bias.numpy()
        return self._array(wide)

    def _square(self, target: native.NetworkLayer, layer: NequIPLayer, pre_row: PaddedRow) -> None:
        if layer.square is None:
            return
        square_row, paths = pad_row(blocks(layer.square.irreps_squared), self.lanes), []
        for path, couplings in zip(layer.square.paths, layer.square.couplings, strict=True):
            first, second, out = pre_row[path.first.irrep], pre_row[path.second.irrep], square_row[path.out.irrep]
            width = whole_vectors(path.channels, self.lanes)  # what lies beyond the channels has no weight
            weights = np.zeros(width)
            weights[: path.channels] = layer.square.weights[path.weight_offset :][: path.channels].numpy()
            dense = couplings.view(out.components, first.components, second.components)
            terms, gradient_terms = (
                self._structs(native.SquareTerm, listed) for listed in square_terms(dense, first, second, out)
            )
            counts = len(terms), len(gradient_terms)
            paths.append(native.SquarePath(width, *counts, terms, gradient_terms, self._array(weights)))
        target.dim_square, target.num_squares = square_row.dim, len(paths)
        target.squares = self._structs(native.SquarePath, paths)
        target.square_out = self._linear(layer.square.linear, square_row, pre_row)

    def _norm(self, target: native.NetworkLayer, layer: NequIPLayer, pre_row: PaddedRow) -> None:
        if self.config.norm == "none":
            return
        norm, described = cast(EquivariantRMSNorm, layer.norm), []
        for padded, scale in zip(pre_row.blocks, norm.scales, strict=True):
            wide = np.zeros(padded.width)
            wide[padded.columns] = scale.numpy()
            coefficient = 1 / (len(norm.blocks) * padded.block.mul * padded.components)
            described.append(
                native.NormBlock(padded.components, padded.width, padded.offset, coefficient, self._array(wide))
            )
        target.num_norms, target.norms = len(described), self._structs(native.NormBlock, described)
        target.norm_epsilon = norm.epsilon

    def _gate(self, target: native.NetworkLayer, layer: NequIPLayer, pre_row: PaddedRow, out_row: PaddedRow) -> None:
        described = []
        gates = pre_row[_EVEN].offset + whole_vectors(layer.gate.num_scalars, self.lanes)
        for out in out_row.blocks:
            source = pre_row[out.block.irrep]
            kind = 2 if out.block.l > 0 else 0 if out.block.p == 1 else 1
            described.append(
                native.GateBlock(kind, out.components, out.width, source.offset, gates if kind == 2 else 0, out.offset)
            )
            gates += out.width if kind == 2 else 0
        target.num_gates, target.gates = len(described), self._structs(native.GateBlock, described)

    def _harmonics(self, network: NequIP) -> tuple[Any, list[int]]:
        """Non-zero terms of the recursion of :class:`~ase_equivariant.nn.angular.SphericalHarmonics`."""
        terms, first = [], [0]
        for l in range(2, self.config.l_max + 1):  # noqa: E741
            step = getattr(network.harmonics, f"step_{l}").reshape(3, 2 * l - 1, 2 * l + 1)
            for a, b, m in torch.nonzero(step.abs() > 1e-14).tolist():
                terms.append(native.HarmonicStep(a, b, m, float(step[a, b, m])))
            first.append(len(terms))
        return (native.HarmonicStep * len(terms))(*terms), first

    def _readout(self, potential: Potential, features: PaddedRow) -> tuple[Any, NDArray[np.float64]]:
        """Hidden layers, and the vector that gives the energy, padded."""
        scalars = features[_EVEN]
        weights = [weight.numpy() / math.sqrt(weight.shape[0]) for weight in potential.readout.mlp.weights]
        rows, height, hidden = scalars.positions()[0], features.dim, []
        for weight in weights[:-1]:
            width = whole_vectors(weight.shape[1], self.lanes)
            padded = np.zeros((height, width))
            padded[rows, : weight.shape[1]] = weight
            hidden.append(native.HiddenLayer(height, height, width, self._array(padded), self._array(padded.T)))
            rows, height = np.arange(weight.shape[1]), width
        last = np.zeros(height)
        last[rows] = weights[-1][:, 0]
        return (native.HiddenLayer * len(hidden))(*hidden), last
