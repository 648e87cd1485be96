"""Nequix models: ``.nqx`` files, a line of JSON followed by the arrays of an equinox tree.

The arrays follow one another in numpy's own format and carry no names: which is which
follows from the configuration in the first line. Nothing is unpickled.

Nequix is NequIP with an equivariant RMS norm, in e3nn-jax's conventions. What differs from
ours is taken into the weights, so that the potential is the same function to rounding:

- its radial network has no normalization; ours divides by √fan-in and scales activations;
- e3nn-jax takes the second moment of an activation over quantiles, e3nn over random draws;
- its RMS norm weighs irreps otherwise (`nequix_layer._norm_weights`);
- radial weights are sorted by the irrep they lead to; ours by the one they come from;
- its features start as the one-hot species, so the embedding is the identity.

References
----------
Koker, Kotak, Smidt, arXiv:2508.16067; e3nn-jax 0.21 (`linear`, `gate`, `tensor_product`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from ase.data import chemical_symbols
from pydantic import ConfigDict, Field
from torch import Tensor

from ase_equivariant.architectures import NequIPConfig
from ase_equivariant.architectures.nequip import NequIP, NequIPLayer
from ase_equivariant.config import Config, ConfigError
from ase_equivariant.io.file_kind import name_of_model
from ase_equivariant.io.foreign.converted import Converted, ForeignModelError
from ase_equivariant.io.foreign.nequix_layer import Read, fill_layer
from ase_equivariant.io.foreign.npy_stream import NpyStreamError, read_float_array, read_json_line
from ase_equivariant.io.model_file import ModelCard
from ase_equivariant.irreps import Irreps
from ase_equivariant.nn.activations import SECOND_MOMENT
from ase_equivariant.potential.potential import Potential, PotentialConfig

# 1/√⟨silu(x)²⟩ as e3nn-jax takes it, over 1 000 001 equally likely quantiles of the standard normal, in float64.
E3NN_JAX_SILU = 1.6765620560798837
# Features leave the gates this much larger than ours; the linear maps that read them make up for it.
_GATE_RATIO = E3NN_JAX_SILU / SECOND_MOMENT["silu"]
_TRAINING_KEYS = ("optimizer", "learning_rate", "batch_size", "n_epochs", "loss_type", "energy_weight", "force_weight")


class NequixConfig(Config):
    """The keys of a file's first line that decide the function; those of its training are skipped."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    atomic_numbers: tuple[Annotated[int, Field(ge=1, lt=len(chemical_symbols))], ...] = Field(min_length=1)
    cutoff: float
    hidden_irreps: str
    lmax: int
    n_layers: int
    radial_basis_size: int
    radial_mlp_size: int
    radial_mlp_layers: int = Field(ge=0, le=100)
    radial_polynomial_p: float
    index_weights: bool
    layer_norm: bool
    shift: float
    scale: float
    avg_n_neighbors: float

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the file's per-species arrays."""
        return tuple(chemical_symbols[number] for number in sorted(self.atomic_numbers))

    def ours(self) -> NequIPConfig:
        """The same network in our terms."""
        return NequIPConfig.parse(
            {
                "species": self.species,
                "cutoff": self.cutoff,
                "num_layers": self.n_layers,
                "l_max": self.lmax,
                "irreps_hidden": str(Irreps(self.hidden_irreps).regroup()),
                "num_embedding": len(self.species),
                "num_radial": self.radial_basis_size,
                "trainable_radial": False,
                "radial_hidden": (self.radial_mlp_size,) * self.radial_mlp_layers,
                "polynomial_p": self.radial_polynomial_p,
                "avg_num_neighbors": self.avg_n_neighbors,
                "self_connection": "species" if self.index_weights else "linear",
                "norm": "rms" if self.layer_norm else "none",
            }
        )


def recognizes(path: Path) -> bool:
    """Whether ``path`` starts as a ``.nqx`` file does: a JSON object with Nequix's keys."""
    try:
        with open(path, "rb") as file:
            header = read_json_line(file)
    except (NpyStreamError, OSError):
        return False
    return {"hidden_irreps", "radial_polynomial_p", "atomic_numbers"} <= header.keys()


def convert(path: Path, *, modal: str | None = None) -> Converted:
    """Read a ``.nqx`` file.

    Parameters
    ----------
    path : Path
        The file.
    modal : None
        Nequix has one level of theory a model.

    Raises
    ------
    ForeignModelError
        If the file is damaged or its model cannot be represented.
    """
    if modal is not None:
        raise ForeignModelError(f"{path}: a Nequix model has no modalities; leave out modal={modal!r}")
    try:
        with open(path, "rb") as file:
            header = read_json_line(file)
            config = _parse(header)
            with torch.random.fork_rng(devices=[]):  # building draws random weights
                potential = Potential(PotentialConfig(architecture=config.ours()))
            with torch.no_grad():
                atomic = _fill(potential, config, partial(read_float_array, file))
    except (NpyStreamError, ConfigError) as error:
        raise ForeignModelError(f"{path}: not a Nequix model that can be read: {error}") from None
    card = ModelCard(
        name=name_of_model(path),
        description=f"converted from the Nequix file {Path(path).name}",
        citation="T. Koker, M. Kotak, T. Smidt, arXiv:2508.16067",
        reference_energies=dict(zip(config.species, atomic.tolist(), strict=True)),
        training={key: header[key] for key in _TRAINING_KEYS if key in header},
    )
    return Converted(potential.requires_grad_(False), card)


def _parse(header: dict[str, Any]) -> NequixConfig:
    """Validate the configuration; refuse hidden irreps that Nequix can write down but not evaluate.

    It starts from scalars and adds the skip connection in all hidden irreps, so that its first
    convolution must reach them: those of parity (−1)^l up to lmax.
    """
    config = NequixConfig.parse(header)
    try:
        hidden = Irreps(config.hidden_irreps)
    except ValueError:
        raise ConfigError(f"hidden_irreps {config.hidden_irreps!r} is not in e3nn's notation") from None
    lost = [str(ir) for mul, ir in hidden if mul and (ir.p != (-1) ** ir.l or ir.l > config.lmax)]
    if lost:
        raise ConfigError(f"hidden_irreps {config.hidden_irreps!r}: its first layer cannot reach {', '.join(lost)}")
    return config


def _fill(potential: Potential, config: NequixConfig, read: Read) -> Tensor:
    """Put the arrays of a file into ``potential`` in the order of its tree; gives the atoms' energies in eV."""
    network = potential.network
    assert isinstance(network, NequIP)
    atomic = read((len(config.species),), "atom_energies")
    network.embedding.copy_(torch.eye(len(config.species), dtype=torch.float64))
    for k, layer in enumerate(network.layers):
        assert isinstance(layer, NequIPLayer)
        fill_layer(layer, read, f"layer {k}", gain=_GATE_RATIO if k else 1.0)
    (readout,) = potential.readout.mlp.weights
    readout.copy_(_GATE_RATIO * read(tuple(readout.shape), "readout"))
    potential.scaling.set(scale=torch.full_like(atomic, config.scale), shift=config.shift + atomic)
    return atomic
