"""The tensors of a SevenNet checkpoint as ours."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ase_equivariant.architectures.nequip import NequIP, NequIPLayer
from ase_equivariant.io.foreign.e3nn_weights import (
    Channel,
    copy_matrices,
    gate_columns,
    linear_matrices,
    num_linear_weights,
    our_channels,
    product_channels,
)
from ase_equivariant.io.foreign.sevennet_settings import SevenNetSettings
from ase_equivariant.irreps import Irrep, Irreps, clebsch_gordan, merge
from ase_equivariant.nn.linear import Linear
from ase_equivariant.potential.potential import Potential

_EVEN = Irrep("0e")
# Buffers that follow from the architecture, and what is unused: an empty weight has no numbers to lose.
_DERIVED = ("output_mask", "._w3j_", ".convolution.weight", ".gate.mul.weight")


class _Tensors:
    """Tensors taken by name, each once."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self.left = dict(tensors)

    def take(self, name: str, size: int | tuple[int, ...]) -> Tensor:
        """The tensor called ``name``; its shape must be ``size``."""
        if name not in self.left:
            raise ValueError(f"it has no {name}")
        tensor, shape = self.left.pop(name), (size,) if isinstance(size, int) else size
        if not tensor.isfinite().all():
            raise ValueError(f"its {name} has numbers that are not finite")
        if tuple(tensor.shape) != shape:
            raise ValueError(f"its {name} has shape {tuple(tensor.shape)}, its configuration asks for {shape}")
        return tensor

    def bias(self, name: str, size: int) -> Tensor:
        """A bias, which may be absent or empty: then zeros."""
        given = self.left.pop(name, torch.zeros(0, dtype=torch.float64))
        if given.numel() not in (0, size):
            raise ValueError(f"its {name} has {given.numel()} numbers, its configuration asks for {size}")
        return given if given.numel() else torch.zeros(size, dtype=torch.float64)

    def finish(self) -> None:
        """Refuse tensors that nothing asked for: the model does more than its configuration says."""
        strange = [name for name in self.left if not any(derived in name for derived in _DERIVED)]
        if strange:
            raise ValueError(f"it has tensors that its configuration does not explain, such as {strange[0]}")


def fill_potential(
    potential: Potential, settings: SevenNetSettings, state: Mapping[str, Tensor], modality: int | None
) -> None:
    """Put a state dict (float64, names of version 0.10 and later) into a potential of ``settings.ours()``."""
    tensors, network, num_modal = _Tensors(state), potential.network, len(settings.modalities)
    assert isinstance(network, NequIP)
    num_species = len(settings.species)
    embedding, constant = _linear(
        tensors, "onehot_to_feature_x", Irreps([(num_species, (0, 1))]), settings.features[0],
        num_modal if settings.use_modal_node_embedding else 0, modality,
    )  # fmt: skip
    network.embedding.copy_(embedding[_EVEN] + constant)
    name = "edge_embedding.basis_function.coeffs"
    if name in tensors.left:
        network.basis.wave_numbers.copy_(tensors.take(name, network.basis.wave_numbers.shape))
    else:  # constants, which SevenNet keeps in single precision whatever the type of the model
        network.basis.wave_numbers.copy_(network.basis.wave_numbers.float())
    for k, layer in enumerate(network.layers):
        assert isinstance(layer, NequIPLayer)
        _fill_layer(layer, k, settings, tensors, num_modal, modality)
    added = _fill_readout(potential, settings, tensors, num_modal, modality)
    scale = _per_species(tensors, "scale", num_species, settings.use_modal_wise_scale, modality)
    shift = _per_species(tensors, "shift", num_species, settings.use_modal_wise_shift, modality)
    potential.scaling.set(scale=scale, shift=shift + scale * added)
    tensors.finish()


def _linear(
    tensors: _Tensors, name: str, irreps_in: Irreps, irreps_out: Irreps, num_modal: int, modality: int | None
) -> tuple[dict[Irrep, Tensor], Tensor]:
    """Matrices of an e3nn linear layer with its fan-in divided out, and what it adds to even scalars."""
    irreps_in = irreps_in + Irreps([(num_modal, (0, 1))]) if num_modal else irreps_in
    flat = tensors.take(f"{name}.linear.weight", num_linear_weights(irreps_in, irreps_out))
    matrices = linear_matrices(flat, irreps_in, irreps_out)
    matrices = {ir: matrix / math.sqrt(matrix.shape[0]) for ir, matrix in matrices.items()}
    constant = tensors.bias(f"{name}.linear.bias", sum(mul for mul, ir in irreps_out if ir == _EVEN))
    if num_modal and _EVEN in matrices:
        assert modality is not None
        matrices[_EVEN], modal_rows = matrices[_EVEN][:-num_modal], matrices[_EVEN][-num_modal:]
        constant = constant + modal_rows[modality]
    return matrices, constant


def _times_fan_in(matrices: dict[Irrep, Tensor]) -> dict[Irrep, Tensor]:
    """What our layers, which divide by √fan-in, need to hold."""
    return {ir: matrix * math.sqrt(matrix.shape[0]) for ir, matrix in matrices.items()}


def _set_bias(linear: Linear, constant: Tensor, order: Tensor | None = None) -> None:
    if linear.bias is not None:
        linear.bias.copy_(constant if order is None else constant[order])
    elif bool(constant.any()):
        raise ValueError("it has biases where its configuration says there are none")


def _fill_layer(
    layer: NequIPLayer, k: int, settings: SevenNetSettings, tensors: _Tensors, num_modal: int, modality: int | None
) -> None:
    conv, features, product = layer.convolution, settings.features[k], settings.product(k)
    gated = Irreps([(mul, ir) for mul, ir in settings.features[k + 1] if ir.l > 0])
    # Irreps that nothing leads to are zero there and absent here; their gates are in the file all the same.
    num_gates = sum(mul for mul, _ in gated)
    into_gate = merge(Irreps([(num_gates, (0, 1)), *settings.features[k + 1]]))
    columns = gate_columns(layer, gated)

    intro = num_modal if settings.use_modal_self_inter_intro else 0
    matrices, constant = _linear(tensors, f"{k}_self_interaction_1", features, features, intro, modality)
    copy_matrices(conv.linear_in.weights, _times_fan_in(matrices))
    _set_bias(conv.linear_in, constant)

    channels, theirs = our_channels(conv.plan), _channels(settings, k, product)
    _fill_radial(layer, k, settings, tensors, [theirs.index(channel) for channel in channels], len(theirs))

    outro = num_modal if settings.use_modal_self_inter_outro else 0
    matrices, constant = _linear(tensors, f"{k}_self_interaction_2", product, into_gate, outro, modality)
    ratio = 1 / (float(tensors.take(f"{k}_convolution.denominator", 1)) * conv.normalization)
    for ir in list(matrices):
        rows = {channel: n for n, channel in enumerate(channel for channel in theirs if channel[0] == ir)}
        matrices[ir] = ratio * matrices[ir][[rows[channel] for channel in channels if channel[0] == ir]]
    copy_matrices(conv.linear_out.weights, _times_fan_in(matrices), columns)
    _set_bias(conv.linear_out, constant, columns)

    _fill_connection(layer, k, settings, tensors, into_gate, columns)


def _fill_connection(
    layer: NequIPLayer, k: int, settings: SevenNetSettings, tensors: _Tensors, into_gate: Irreps, columns: Tensor
) -> None:
    """Where connections of other layers are by species, a linear one is the same matrix for every species."""
    name, features, between = f"{k}_self_connection_intro", settings.features[k], (len(settings.species),)
    if settings.connections[k] == "nequip":
        flat = tensors.take(f"{name}.fc_tensor_product.weight", num_linear_weights(features, into_gate, between))
        matrices = linear_matrices(flat, features, into_gate, between)
        matrices = {ir: matrix.permute(1, 0, 2) for ir, matrix in matrices.items()}
    else:
        matrices, constant = _linear(tensors, name, features, into_gate, 0, None)
        if bool(constant.any()):
            raise ValueError(f"its {name} has biases, which SevenNet's self-connections do not have")
        matrices = _times_fan_in(matrices)
    if layer.linear_connection is not None:
        copy_matrices(layer.linear_connection.weights, matrices, columns)
    elif layer.species_connection is not None:
        if settings.connections[k] == "linear":
            # Ours divides by the root of the number of species, too.
            matrices = {ir: matrix.expand(*between, -1, -1) * math.sqrt(*between) for ir, matrix in matrices.items()}
        copy_matrices(layer.species_connection.weights, matrices, columns)


def _channels(settings: SevenNetSettings, k: int, product: Irreps) -> list[Channel]:
    """Channels of a layer's product in the order in which its sorted irreps have them."""
    channels = product_channels(settings.features[k], settings.harmonics, {ir for _, ir in product})
    return sorted(channels, key=lambda channel: channel[0])  # stable


def _fill_radial(
    layer: NequIPLayer, k: int, settings: SevenNetSettings, tensors: _Tensors, order: list[int], num_weights: int
) -> None:
    """Both sides are e3nn's perceptron; columns are reordered, and their sign is that of the file's couplings."""
    weights = list(layer.convolution.radial.weights)
    for n, weight in enumerate(weights[:-1]):
        weight.copy_(tensors.take(f"{k}_convolution.weight_nn.layer{n}.weight", tuple(weight.shape)))
    name = f"{k}_convolution.weight_nn.layer{len(weights) - 1}.weight"
    last = tensors.take(name, (weights[-1].shape[0], num_weights))
    product = settings.product(k)
    listed = list(product_channels(settings.features[k], settings.harmonics, {ir for _, ir in product}))
    by_output = _channels(settings, k, product)
    if not settings.weights_sorted_by_output:
        position = {channel: n for n, channel in enumerate(listed)}
        last = last[:, [position[channel] for channel in by_output]]
    signs = torch.tensor([_sign(tensors, k, *channel[:2], channel[3]) for channel in by_output], dtype=torch.float64)
    weights[-1].copy_((last * signs)[:, order])


def _sign(tensors: _Tensors, k: int, out: Irrep, source: Irrep, l2: int) -> float:
    """Sign of the coupling coefficients that the checkpoint brings along, relative to ours."""
    l1, l3 = source.l, out.l
    stored = tensors.left.get(f"{k}_convolution.convolution._compiled_main_left_right._w3j_{l1}_{l2}_{l3}")
    if stored is None:
        return 1.0
    ours = clebsch_gordan(l1, l2, l3)
    overlap = float((stored * ours).sum()) if stored.shape == ours.shape else math.nan
    if not abs(abs(overlap) - 1) < 1e-5:
        raise ValueError(f"its coupling coefficients of l = {l1}, {l2}, {l3} are not in e3nn's basis")
    return math.copysign(1.0, overlap)


def _fill_readout(
    potential: Potential, settings: SevenNetSettings, tensors: _Tensors, num_modal: int, modality: int | None
) -> float:
    """Fill the read-out; gives the constant it adds to every atom's energy before scaling."""
    weights = list(potential.readout.mlp.weights)
    features = settings.features[-1]
    if settings.readout_as_fcn:
        for n, weight in enumerate(weights):
            weight.copy_(tensors.take(f"readout_FCN.fcn.layer{n}.weight", tuple(weight.shape)))
        return 0.0
    hidden = Irreps([(features.dim // 2, (0, 1))])
    modal = num_modal if settings.use_modal_output_block else 0
    first, constant = _linear(tensors, "reduce_input_to_hidden", features, hidden, modal, modality)
    second, last = _linear(tensors, "reduce_hidden_to_energy", hidden, Irreps("0e"), 0, modality)
    weights[0].copy_(math.sqrt(features.dim) * (first[_EVEN] @ second[_EVEN]))
    return float(constant @ second[_EVEN] + last)


def _per_species(tensors: _Tensors, name: str, num_species: int, by_modality: bool, modality: int | None) -> Tensor:
    values = tensors.left.pop(f"rescale_atomic_energy.{name}", torch.zeros(0))
    if by_modality and modality is not None and values.ndim == 2:
        values = values[modality]
    if values.shape not in ((1,), (num_species,)):
        raise ValueError(f"its rescale_atomic_energy.{name} has shape {tuple(values.shape)}")
    return values.expand(num_species)
