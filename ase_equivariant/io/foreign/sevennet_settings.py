"""SevenNet's configuration, checked, and the same network in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from ase.data import chemical_symbols
from pydantic import ConfigDict, Field, model_validator

from ase_equivariant.config import Config, ConfigError
from ase_equivariant.irreps import Irreps, merge
from ase_equivariant.potential.potential import PotentialConfig

_ACTIVATIONS = {"e": "silu", "o": "tanh"}


class SevenNetSettings(Config):
    """The keys of a checkpoint's configuration that decide the function, with ``sevenn``'s defaults."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    version: str
    type_map: dict[int, int] = Field(alias="_type_map", min_length=1)
    channel: int = Field(ge=1)
    irreps_manual: tuple[str, ...] | bool = False
    lmax: int = Field(ge=0)
    lmax_edge: int = -1
    lmax_node: int = -1
    is_parity: bool
    cutoff: float = Field(gt=0)
    radial_basis: dict[str, Any]
    cutoff_function: dict[str, Any]
    num_convolution_layer: int = Field(ge=1)
    weight_nn_hidden_neurons: tuple[Annotated[int, Field(ge=1)], ...]
    act_radial: str = "silu"
    act_scalar: dict[str, str] = Field(default_factory=lambda: dict(_ACTIVATIONS))
    act_gate: dict[str, str] = Field(default_factory=lambda: dict(_ACTIVATIONS))
    self_connection_type: str | tuple[str, ...] = "nequip"
    interaction_type: str = "nequip"
    use_bias_in_linear: bool = False
    readout_as_fcn: bool = False
    readout_fcn_hidden_neurons: tuple[int, ...] | None = None
    readout_fcn_activation: str | None = "relu"
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
        if given.get("version", "").startswith("0.9."):
            given.setdefault("_normalize_sph", False)
        return cls.parse(given)

    @model_validator(mode="after")
    def _representable(self) -> SevenNetSettings:
        if self.interaction_type != "nequip":
            raise ValueError(f"its interaction_type is {self.interaction_type!r}, only 'nequip' is known")
        if self.radial_basis.get("radial_basis_name") != "bessel":
            raise ValueError(
                f"its radial basis is {self.radial_basis.get('radial_basis_name')!r}, only 'bessel' is known"
            )
        if self.cutoff_function.get("cutoff_function_name") not in ("poly_cut", "XPLOR"):
            raise ValueError(f"its cutoff function {self.cutoff_function.get('cutoff_function_name')!r} is not known")
        if self.act_radial != "silu" or self.act_scalar != _ACTIVATIONS or self.act_gate.get("e") != "silu":
            raise ValueError("its activations are not silu (and tanh for odd scalars)")
        if self.readout_as_fcn and self.readout_fcn_activation != "silu":
            raise ValueError(f"its read-out is a perceptron with {self.readout_fcn_activation}, only silu is known")
        if self.connection not in ("nequip", "linear"):
            raise ValueError(
                f"its self_connection_type is {self.self_connection_type!r}, only one for all layers is known"
            )
        if any(symbol is None for symbol in self.species):
            raise ValueError("its elements are not in order")
        return self

    @cached_property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the model's order."""
        return tuple(chemical_symbols[number] for number in sorted(self.type_map, key=lambda z: self.type_map[z]))

    @property
    def connection(self) -> str:
        """The self-connection of all layers, or what cannot be represented."""
        given = self.self_connection_type
        kinds = {given} if isinstance(given, str) else set(given)
        return kinds.pop() if len(kinds) == 1 else "mixed"

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
            if len(self.irreps_manual) != self.num_convolution_layer + 1:
                raise ConfigError(f"irreps_manual lists {len(self.irreps_manual)} irreps")
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
        parts = self.version.split(".")
        return tuple(map(int, parts[:3])) >= (0, 11, 0) and not (
            parts[:3] == ["0", "11", "0"] and parts[3:] == ["dev0"]
        )

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
            "num_radial": basis.get("bessel_basis_num", 8),
            "trainable_radial": basis.get("trainable_coeff", True),
            "radial_hidden": self.weight_nn_hidden_neurons,
            "avg_num_neighbors": 1.0,
            "self_connection": "species" if self.connection == "nequip" else "linear",
            "scalar_bias": biased,
        }
        if envelope["cutoff_function_name"] == "XPLOR":
            network |= {"cutoff_function": "xplor", "xplor_onset": envelope["cutoff_on"]}
        else:
            network |= {"polynomial_p": envelope.get("poly_cut_p_value", 6)}
        hidden = (self.readout_fcn_hidden_neurons or ()) if self.readout_as_fcn else ()
        return PotentialConfig.parse({"architecture": network, "readout_hidden": hidden})


def product_irreps(features: Irreps, harmonics: Irreps, l_max: int, *, even_only: bool) -> Irreps:
    """All irreps of features ⊗ harmonics up to ``l_max``, sorted, each once with all its channels."""
    products = [(mul, ir) for mul, source in features for _, harmonic in harmonics for ir in source * harmonic]
    return merge(Irreps([(mul, ir) for mul, ir in products if ir.l <= l_max and not (even_only and ir.p == -1)]))
