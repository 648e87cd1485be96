"""SevenNet's configuration, checked, and the same network in our terms."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from ase.data import chemical_symbols
from pydantic import ConfigDict, Field, model_validator

from ase_equivariant.config import Config, ConfigError
from ase_equivariant.io.foreign.e3nn_weights import num_linear_weights
from ase_equivariant.irreps import Irrep, Irreps, merge
from ase_equivariant.potential.potential import PotentialConfig

_ACTIVATIONS = {"e": "silu", "o": "tanh"}
_MAX_DEGREE = 11  # to which e3nn has harmonics

Word = Annotated[str, Field(max_length=60)]
Degree = Annotated[int, Field(le=_MAX_DEGREE)]
Width = Annotated[int, Field(ge=1, le=1 << 20)]


class RadialBasis(Config):
    """``radial_basis`` of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    radial_basis_name: Word
    bessel_basis_num: Width = 8
    trainable_coeff: bool = True


class CutoffFunction(Config):
    """``cutoff_function`` of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cutoff_function_name: Word
    poly_cut_p_value: float = 6.0
    cutoff_on: float | None = None


class SevenNetSettings(Config):
    """The keys of a checkpoint's configuration that decide the function, with ``sevenn``'s defaults."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    version: Word
    type_map: dict[int, int] = Field(alias="_type_map", min_length=1)
    channel: Width
    irreps_manual: tuple[Annotated[str, Field(max_length=200)], ...] | bool = False
    lmax: Annotated[Degree, Field(ge=0)]
    lmax_edge: Degree = -1
    lmax_node: Degree = -1
    is_parity: bool
    cutoff: float = Field(gt=0, le=100)
    radial_basis: RadialBasis
    cutoff_function: CutoffFunction
    num_convolution_layer: int = Field(ge=1, le=100)
    weight_nn_hidden_neurons: tuple[Width, ...]
    act_radial: Word = "silu"
    act_scalar: dict[Word, Word] = Field(default_factory=lambda: dict(_ACTIVATIONS))
    act_gate: dict[Word, Word] = Field(default_factory=lambda: dict(_ACTIVATIONS))
    self_connection_type: Word | tuple[Word, ...] = "nequip"
    interaction_type: Word = "nequip"
    use_bias_in_linear: bool = False
    readout_as_fcn: bool = False
    readout_fcn_hidden_neurons: tuple[Width, ...] | None = None
    readout_fcn_activation: Word | None = "relu"
    normalize_sph: bool = Field(default=True, alias="_normalize_sph")
    use_modality: bool = False
    modal_map: dict[str, int] = Field(default_factory=dict, alias="_modal_map")
    use_modal_node_embedding: bool = False
    use_modal_self_inter_intro: bool = False
    use_modal_self_inter_outro: bool = False
    use_modal_output_block: bool = False
    use_modal_wise_shift: bool = False
    use_modal_wise_scale: bool = False

    @classmethod
    def of_checkpoint(cls, config: Mapping[str, Any]) -> SevenNetSettings:
        """Check a checkpoint's configuration.

        Raises
        ------
        ConfigError
            If it is damaged, or describes what cannot be represented.
        """
        known = {field.alias or name for name, field in cls.model_fields.items()}
        given = {key: value for key, value in config.items() if key in known and value is not None}
        if config.get("optimize_by_reduce") is False:
            raise ConfigError("it was trained with optimize_by_reduce: False, which SevenNet gave up too")
        if _release(given.get("version")) < (0, 10, 0):
            given.setdefault("_normalize_sph", False)
        return cls.parse(given)

    @model_validator(mode="after")
    def _representable(self) -> SevenNetSettings:
        if self.interaction_type != "nequip":
            raise ValueError(f"its interaction_type is {self.interaction_type!r}, only 'nequip' is known")
        if self.radial_basis.radial_basis_name != "bessel":
            raise ValueError(f"its radial basis is {self.radial_basis.radial_basis_name!r}, only 'bessel' is known")
        if self.cutoff_function.cutoff_function_name not in ("poly_cut", "XPLOR"):
            raise ValueError(f"its cutoff function {self.cutoff_function.cutoff_function_name!r} is not known")
        if self.act_radial != "silu" or self.act_scalar != _ACTIVATIONS or self.act_gate.get("e") != "silu":
            raise ValueError("its activations are not silu (and tanh for odd scalars)")
        if self.readout_as_fcn and self.readout_fcn_activation != "silu":
            raise ValueError(f"its read-out is a perceptron with {self.readout_fcn_activation}, only silu is known")
        if strange := set(self.connections) - {"nequip", "linear"}:
            raise ValueError(f"its self_connection_type {strange.pop()!r} is not known")
        self._check_maps()
        self._check_irreps()
        return self

    def _check_maps(self) -> None:
        if any(not 0 < number < len(chemical_symbols) for number in self.type_map):
            raise ValueError(f"its elements {sorted(self.type_map)} are not nuclear charges")
        if sorted(self.type_map.values()) != list(range(len(self.type_map))):
            raise ValueError("its elements are not numbered from 0")
        if self.use_modality and sorted(self.modal_map.values()) != list(range(max(len(self.modal_map), 1))):
            raise ValueError("its modalities are not numbered from 0")

    def _check_irreps(self) -> None:
        """Refuse manual irreps that SevenNet does not evaluate as it says, or that have other gates than ours.

        Its gate puts scalars first whatever the order, and what follows takes them for what is listed first.
        Where there are no even scalars, odd ones open its gates.
        """
        if isinstance(self.irreps_manual, bool):
            return
        if len(self.irreps_manual) != self.num_convolution_layer + 1:
            raise ValueError(f"irreps_manual lists {len(self.irreps_manual)} irreps")
        for text in self.irreps_manual:
            try:
                irreps = Irreps(text)
            except ValueError:
                raise ValueError(f"irreps_manual has {text!r}, which are not irreps") from None
            if irreps.dim == 0:
                raise ValueError(f"irreps_manual has {text!r}, which are no features")
            degrees = [ir.l for _, ir in irreps]
            if max(degrees, default=0) > _MAX_DEGREE:
                raise ValueError(f"irreps_manual has degrees above {_MAX_DEGREE} in {text!r}")
            if any(a > 0 and b == 0 for a, b in itertools.pairwise(degrees)):
                raise ValueError(f"irreps_manual has scalars behind others in {text!r}: this is not equivariant")
            if max(degrees, default=0) > 0 and all(ir != Irrep("0e") for _, ir in irreps):
                raise ValueError(f"irreps_manual has no even scalars in {text!r}: gates cannot be odd")
        if any(ir != Irrep("0e") for end in (0, -1) for _, ir in Irreps(self.irreps_manual[end])):
            raise ValueError("irreps_manual starts or ends with other irreps than even scalars")

    @cached_property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the model's order."""
        return tuple(chemical_symbols[number] for number in sorted(self.type_map, key=lambda z: self.type_map[z]))

    @cached_property
    def connections(self) -> tuple[str, ...]:
        """The self-connection of each layer."""
        given = self.self_connection_type
        kinds = (given,) * self.num_convolution_layer if isinstance(given, str) else given
        if len(kinds) < self.num_convolution_layer:
            raise ConfigError(f"self_connection_type lists {len(kinds)} layers of {self.num_convolution_layer}")
        return kinds[: self.num_convolution_layer]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Levels of theory in the order of their numbers; empty unless there are several."""
        return tuple(sorted(self.modal_map, key=lambda name: self.modal_map[name])) if self.use_modality else ()

    @cached_property
    def harmonics(self) -> Irreps:
        """Irreps of the spherical harmonics."""
        l_max = self.lmax_edge if self.lmax_edge > 0 else self.lmax
        return Irreps.spherical_harmonics(l_max, -1 if self.is_parity else 1)

    @cached_property
    def features(self) -> tuple[Irreps, ...]:
        """Irreps before the first layer and after each, as SevenNet lists them."""
        if not isinstance(self.irreps_manual, bool):
            return tuple(Irreps(text) for text in self.irreps_manual)
        features, l_max = [Irreps([(self.channel, (0, 1))])], self.lmax_node if self.lmax_node > 0 else self.lmax
        for layer in range(self.num_convolution_layer):
            last = layer + 1 == self.num_convolution_layer
            reached = product_irreps(features[-1], self.harmonics, 0 if last else l_max, even_only=last)
            features.append(Irreps([(self.channel, ir) for _, ir in reached]))
        return tuple(features)

    def product(self, layer: int) -> Irreps:
        """Irreps of a layer's tensor product."""
        last = layer + 1 == self.num_convolution_layer
        return product_irreps(self.features[layer], self.harmonics, self.features[layer + 1].lmax, even_only=last)

    @property
    def weights_sorted_by_output(self) -> bool:
        """Whether radial weights are in the order of the irreps they lead to."""
        return _release(self.version) >= (0, 11, 0) and self.version != "0.11.0.dev0"

    def num_weights(self) -> int:
        """How many numbers the linear maps and radial networks have at least."""
        count = self.radial_basis.bessel_basis_num
        for layer in range(self.num_convolution_layer):
            product, after = self.product(layer), merge(self.features[layer + 1])
            count += num_linear_weights(self.features[layer], self.features[layer])
            count += num_linear_weights(product, after)
            widths = [
                self.radial_basis.bessel_basis_num,
                *self.weight_nn_hidden_neurons,
                sum(mul for mul, _ in product),
            ]
            count += sum(a * b for a, b in itertools.pairwise(widths))
        if self.readout_as_fcn:
            count += sum(a * b for a, b in itertools.pairwise(self.readout_fcn_hidden_neurons or ()))
        return count

    def ours(self) -> PotentialConfig:
        """The same potential in our terms."""
        biased = self.use_bias_in_linear or self.use_modal_self_inter_intro or self.use_modal_self_inter_outro
        basis, envelope = self.radial_basis, self.cutoff_function
        network: dict[str, Any] = {
            "species": self.species,
            "cutoff": self.cutoff,
            "num_layers": self.num_convolution_layer,
            "l_max": self.harmonics.lmax,
            "irreps_hidden": tuple(str(merge(irreps)) for irreps in self.features[1:]),
            "num_embedding": self.features[0].dim,
            "parity": self.is_parity,
            "solid_harmonics": not self.normalize_sph,
            "num_radial": basis.bessel_basis_num,
            "trainable_radial": basis.trainable_coeff,
            "radial_hidden": self.weight_nn_hidden_neurons,
            "avg_num_neighbors": 1.0,
            "self_connection": "species" if "nequip" in self.connections else "linear",
            "scalar_bias": biased,
        }
        if envelope.cutoff_function_name == "XPLOR":
            network |= {"cutoff_function": "xplor", "xplor_onset": envelope.cutoff_on}
        else:
            network |= {"polynomial_p": envelope.poly_cut_p_value}
        hidden = (self.readout_fcn_hidden_neurons or ()) if self.readout_as_fcn else ()
        return PotentialConfig.parse({"architecture": network, "readout_hidden": hidden})


def _release(version: Any) -> tuple[int, ...]:
    """The first three numbers of a version.

    Raises
    ------
    ConfigError
        If it does not begin with them.
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version) if isinstance(version, str) else None
    if match is None:
        found = f"its version is {version[:40]!r}" if isinstance(version, str) else "it does not say its version"
        raise ConfigError(f"{found}: SevenNet writes one such as '0.13.0'")
    return tuple(map(int, match.groups()))


def product_irreps(features: Irreps, harmonics: Irreps, l_max: int, *, even_only: bool) -> Irreps:
    """All irreps of features ⊗ harmonics up to ``l_max``, sorted, each once with all its channels."""
    products = [(mul, ir) for mul, source in features for _, harmonic in harmonics for ir in source * harmonic]
    return merge(Irreps([(mul, ir) for mul, ir in products if ir.l <= l_max and not (even_only and ir.p == -1)]))
