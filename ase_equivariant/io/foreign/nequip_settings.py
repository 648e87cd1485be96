"""What NequIP's model builders were told, checked, and the same network in our terms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from ase.data import chemical_symbols
from pydantic import Field

from ase_equivariant.config import Config, ConfigError
from ase_equivariant.irreps import Irreps
from ase_equivariant.potential.potential import PotentialConfig

# Builders of nequip that make the network this package knows.
_FULL = "nequip.model.FullNequIPGNNModel"
_SIMPLE = "nequip.model.NequIPGNNModel"
_PRESET = "nequip.model.PresetNequIPGNNModel"
_PRESETS: dict[str, dict[str, Any]] = {
    "S": {"num_layers": 2, "l_max": 1, "num_features": [128, 64]},
    "M": {"num_layers": 4, "l_max": 2, "num_features": [128, 64, 32]},
    "L": {"num_layers": 6, "l_max": 3, "num_features": [128, 64, 32, 32]},
    "XL": {"num_layers": 6, "l_max": 4, "num_features": [320, 96, 64, 32, 32]},
}
_OF_EVERY_PRESET = {"parity": False, "type_embed_num_features": 32, "radial_mlp_depth": 1, "radial_mlp_width": 128}
# They choose precision, seed and how derivatives are taken or compiled: not the function.
_IRRELEVANT = ("seed", "model_dtype", "compile_mode", "do_derivatives")
_MOST_LAYERS, _HIGHEST_L = 1000, 11
_NOT_SHORTER_BY = 1e-12  # relative; packages hold reciprocals of cutoffs, rounded


class ZBLSettings(Config):
    """Arguments of ``nequip.nn.pair_potential.ZBL``."""

    target: Literal["nequip.nn.pair_potential.ZBL"] = Field(alias="_target_")
    units: str
    chemical_species: tuple[str, ...]
    polynomial_cutoff_p: float = 6.0


class NequIPSettings(Config):
    """Arguments of nequip's ``FullNequIPGNNModel``, with its defaults.

    Make them with :func:`checked_settings`, which refuses what cannot be represented.
    """

    r_max: float = Field(gt=0)
    type_names: tuple[str, ...] = Field(min_length=1)
    radial_mlp_depth: tuple[int, ...] = Field(min_length=1)
    radial_mlp_width: tuple[int, ...]
    feature_irreps_hidden: tuple[str, ...]
    irreps_edge_sh: int | str
    type_embed_num_features: int = Field(ge=1)
    categorical_graph_field_embed: Any = None
    readout_mlp_hidden_layers_depth: int = Field(default=0, ge=0)
    readout_mlp_hidden_layers_width: int | None = None
    readout_mlp_nonlinearity: str | None = "silu"
    per_edge_type_cutoff: dict[str, float | dict[str, float]] | None = None
    num_bessels: int = 8
    bessel_trainable: bool = False
    polynomial_cutoff_p: float = 6.0
    avg_num_neighbors: float | dict[str, float]
    per_type_energy_scales: Any = None
    per_type_energy_shifts: Any = None
    per_type_energy_scales_trainable: bool | None = False
    per_type_energy_shifts_trainable: bool | None = False
    pair_potential: dict[str, Any] | None = None
    convnet_sc: bool = True
    learnable_shift: bool = False
    convnet_resnet: bool = False
    convnet_nonlinearity_type: str = "gate"
    convnet_nonlinearity_scalars: dict[str, str] = Field(default_factory=lambda: {"e": "silu", "o": "tanh"})
    convnet_nonlinearity_gates: dict[str, str] = Field(default_factory=lambda: {"e": "silu", "o": "tanh"})

    @property
    def edge_irreps(self) -> Irreps:
        """Irreps of the spherical harmonics."""
        given = self.irreps_edge_sh
        return Irreps.spherical_harmonics(given) if isinstance(given, int) else Irreps(given)

    @property
    def hidden(self) -> tuple[Irreps, ...]:
        """Irreps wanted after each layer, in nequip's order."""
        return tuple(Irreps(text) for text in self.feature_irreps_hidden)

    @property
    def has_self_connection(self) -> tuple[bool, ...]:
        """For each layer; nequip leaves out the first one's, so that an isolated atom has its shift as energy."""
        return tuple(self.convnet_sc and (k > 0 or self.learnable_shift) for k in range(len(self.hidden)))

    @property
    def zbl(self) -> ZBLSettings | None:
        """The pair potential, if there is one."""
        return None if self.pair_potential is None else ZBLSettings.parse(self.pair_potential)

    @property
    def readout_hidden(self) -> tuple[int, ...]:
        """Hidden widths of the read-out as the file has it."""
        width = self.readout_mlp_hidden_layers_width or self.hidden[-1].dim
        return (width,) * self.readout_mlp_hidden_layers_depth

    def ours(self) -> PotentialConfig:
        """The same potential in our terms."""
        per_species = self.avg_num_neighbors if isinstance(self.avg_num_neighbors, dict) else None
        network = {
            "species": self.type_names,
            "cutoff": self.r_max,
            "num_layers": len(self.hidden),
            "l_max": self.edge_irreps.lmax,
            "irreps_hidden": tuple(str(irreps.regroup()) for irreps in self.hidden),
            "num_embedding": self.type_embed_num_features,
            "num_radial": self.num_bessels,
            "trainable_radial": self.bessel_trainable,
            "radial_hidden": (self.radial_mlp_width[0],) * self.radial_mlp_depth[0],
            "polynomial_p": self.polynomial_cutoff_p,
            "pair_cutoffs": self._pair_cutoffs(),
            "avg_num_neighbors": 1.0 if per_species else self.avg_num_neighbors,
            "neighbors_per_species": per_species,
            "self_connection": "species" if self.convnet_sc else "none",
            "first_self_connection": self.has_self_connection[0],
        }
        linear = self.readout_mlp_nonlinearity is None  # several linear maps in a row are one
        zbl = self.zbl
        return PotentialConfig.parse(
            {
                "architecture": network,
                "readout_hidden": () if linear else self.readout_hidden,
                "zbl": zbl is not None,
                "zbl_envelope_p": zbl.polynomial_cutoff_p if zbl else None,
            }
        )

    def _pair_cutoffs(self) -> dict[str, dict[str, float]] | None:
        """The shorter cutoffs, by centre and neighbour; nequip lets one number stand for all neighbours."""
        longest = self.r_max * (1 - _NOT_SHORTER_BY)
        pairs = {}
        for centre, row in (self.per_edge_type_cutoff or {}).items():
            full = row if isinstance(row, dict) else dict.fromkeys(self.type_names, row)
            if shorter := {neighbour: value for neighbour, value in full.items() if value < longest}:
                pairs[centre] = shorter
        return pairs or None


def checked_settings(arguments: dict[str, Any]) -> NequIPSettings:
    """Validate the arguments of ``FullNequIPGNNModel``.

    Raises
    ------
    ConfigError
        If they are not valid, or make a network that cannot be represented; the message says what stands against it.
    """
    settings = NequIPSettings.parse(arguments)
    try:
        obstacle = next(_obstacles(settings), None)
    except (ValueError, AssertionError, IndexError):  # e3nn's, of text that is not its notation
        listed = ", ".join((*settings.feature_irreps_hidden, str(settings.irreps_edge_sh)))
        raise ConfigError(f"its irreps are not all in e3nn's notation: {listed}") from None
    if obstacle is not None:
        raise ConfigError(obstacle)
    return settings


def _obstacles(settings: NequIPSettings) -> Iterator[str]:
    """What stands against representing such a network, a line for each reason."""
    if strange := [name for name in settings.type_names if name not in chemical_symbols[1:]]:
        yield f"its type_names must be chemical symbols, which {strange[0]!r} is not"
    if settings.categorical_graph_field_embed:
        yield "it depends on properties of the whole structure (categorical_graph_field_embed), which ours does not"
    yield from _obstacles_in_layers(settings)
    hidden, activation = settings.readout_mlp_hidden_layers_depth, settings.readout_mlp_nonlinearity
    if hidden and activation not in ("silu", None):
        yield f"its read-out is activated by {activation}, where ours has silu or no hidden layers"
    if settings.pair_potential is None:
        return
    if (kind := str(settings.pair_potential.get("_target_"))) != "nequip.nn.pair_potential.ZBL":
        yield f"its pair potential is {kind}, only nequip.nn.pair_potential.ZBL can be represented"
    if (units := settings.pair_potential.get("units")) != "metal":
        yield f"its ZBL repulsion is in LAMMPS' units {units!r}, not in eV (metal): its energies are of another unit"
    if tuple(settings.pair_potential.get("chemical_species", ())) != settings.type_names:
        yield "the elements of its ZBL repulsion are not those of its type_names"


def _obstacles_in_layers(settings: NequIPSettings) -> Iterator[str]:
    depths, widths = settings.radial_mlp_depth, settings.radial_mlp_width
    if not len(depths) == len(widths) == len(settings.hidden):
        yield f"it lists {len(depths)} and {len(widths)} radial networks for {len(settings.hidden)} layers"
    if len(set(zip(depths, widths, strict=False))) > 1:
        yield "its layers have radial networks of different sizes"
    if any(ir.l > 0 or ir.p < 0 for _, ir in settings.hidden[-1]):
        yield f"its last layer gives {settings.hidden[-1]}, not even scalars only"
    if settings.edge_irreps != Irreps.spherical_harmonics(settings.edge_irreps.lmax):
        yield f"its irreps_edge_sh {settings.irreps_edge_sh!r} are not the spherical harmonics from l = 0 on"
    if settings.convnet_resnet:
        yield "it adds each layer's input to its output (convnet_resnet), which ours does not"
    if settings.convnet_nonlinearity_type != "gate":
        yield f"its nonlinearity is {settings.convnet_nonlinearity_type!r}, only 'gate' can be represented"
    if settings.convnet_nonlinearity_scalars != {"e": "silu", "o": "tanh"}:
        found = settings.convnet_nonlinearity_scalars
        yield f"its scalars are activated by {found}, where ours has silu for even and tanh for odd ones"
    if settings.convnet_nonlinearity_gates.get("e") != "silu":
        yield f"its gates are activated by {settings.convnet_nonlinearity_gates}, where ours has silu"


def settings_of_builder(arguments: dict[str, Any]) -> NequIPSettings:
    """Check what one of nequip's builders was called with, ``{"_target_": builder, argument: value, …}``.

    Raises
    ------
    ConfigError
        If the builder is none of NequIP's, or its arguments make what cannot be represented.
    """
    arguments = {key: value for key, value in arguments.items() if key not in _IRRELEVANT}
    target = str(arguments.pop("_target_", None))
    if target == "nequip.model.modify":
        return _settings_of_modified(arguments)
    if target in ("nequip.model.ModelFromPackage", "nequip.model.ModelFromCheckpoint"):
        raise ConfigError(
            "it was fine-tuned from another file, where its architecture is; "
            "convert what `nequip-package build` makes of it instead"
        )
    if target == _PRESET:
        preset = str(arguments.pop("preset", "")).upper()
        if preset not in _PRESETS:
            raise ConfigError(f"its preset {preset!r} is not known, only {', '.join(_PRESETS)}")
        arguments, target = {**_OF_EVERY_PRESET, **_PRESETS[preset], **arguments}, _SIMPLE
    if target == _SIMPLE:
        arguments, target = _spelled_out(arguments), _FULL
    if target != _FULL:
        raise ConfigError(f"it was built by {target}, which is none of NequIP's own networks")
    return checked_settings(arguments)


def _settings_of_modified(arguments: dict[str, Any]) -> NequIPSettings:
    """Modifiers that replace scales and shifts, or kernels, leave the architecture as it was."""
    settings = settings_of_builder(dict(arguments.get("model", {})))
    for modifier in arguments.get("modifiers", []):
        name = modifier.get("modifier")
        if name == "modify_PerTypeScaleShift":
            trainable = {
                f"per_type_energy_{which}_trainable": modifier.get(f"{which}_trainable", False)
                for which in ("scales", "shifts")
            }
            settings = settings.model_copy(update=trainable)
        elif name not in ("enable_OpenEquivariance", "enable_CuEquivariance", "enable_ForceStressOutput"):
            raise ConfigError(f"it was changed by the modifier {name}, which is not known")
    return settings


def _spelled_out(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``NequIPGNNModel`` as those of ``FullNequIPGNNModel``."""
    rest = dict(arguments)
    num_layers, l_max = int(rest.pop("num_layers", 4)), int(rest.pop("l_max", 1))
    parity, features = rest.pop("parity", True), rest.pop("num_features", 32)
    if not (0 < num_layers <= _MOST_LAYERS and 0 <= l_max <= _HIGHEST_L):
        raise ConfigError(f"it has {num_layers} layers up to l = {l_max}, which no network has")
    features = [features] * (l_max + 1) if isinstance(features, int) else list(features)
    if len(features) != l_max + 1:
        raise ConfigError(f"its num_features {features} are not one for each of l = 0 … {l_max}")
    # Without parity NequIP keeps the irreps of parity (−1)^l: still symmetric under inversion.
    parities = [(1, -1) if parity else ((-1) ** degree,) for degree in range(l_max + 1)]
    hidden = [(mul, (degree, p)) for degree, mul in enumerate(features) for p in parities[degree]]
    embedding = rest.pop("type_embed_num_features", None)
    depth, width = rest.pop("radial_mlp_depth", 1), rest.pop("radial_mlp_width", 128)
    return {
        **rest,
        "irreps_edge_sh": l_max,
        "type_embed_num_features": features[0] if embedding is None else embedding,
        "feature_irreps_hidden": [str(Irreps(hidden))] * (num_layers - 1) + [f"{features[0]}x0e"],
        "radial_mlp_depth": [depth] * num_layers,
        "radial_mlp_width": [width] * num_layers,
    }
