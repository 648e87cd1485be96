"""SevenNet models: the checkpoints (``.pth``) that ``sevenn`` writes.

A checkpoint has its configuration beside its state dict; both are read as data (`safe_pickle`). What
differs from ours is taken into the weights, so that the potential is the same function to rounding:

- convolutions divide by a number, ours by the root of a mean number of neighbours;
- radial weights are sorted by the irrep they lead to since version 0.11, before by the one they come from;
- models of version 0.9.1 and before (SevenNet-0) take harmonics of the edge vector, not of its direction;
- Clebsch-Gordan coefficients are in the checkpoint; some old ones have the other sign;
- the two linear maps of the read-out are one;
- multi-fidelity models append the one-hot modality to the scalars that enter some linear maps: with the
  modality chosen this is a constant.

References
----------
Park, Kim, Hwang, Han, J. Chem. Theory Comput. 20, 4857 (2024), arXiv:2402.03789;
Kim et al. (multi-fidelity), J. Am. Chem. Soc. 147, 1042 (2025), arXiv:2409.07947.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_equivariant.config import ConfigError
from ase_equivariant.io.file_kind import name_of_model
from ase_equivariant.io.foreign.converted import Converted, ForeignModelError
from ase_equivariant.io.foreign.safe_pickle import UnsafePickleError
from ase_equivariant.io.foreign.sevennet_settings import SevenNetSettings
from ase_equivariant.io.foreign.sevennet_weights import fill_potential
from ase_equivariant.io.foreign.torch_archive import TorchArchive
from ase_equivariant.io.model_file import ModelCard
from ase_equivariant.potential.potential import Potential

_KEYS = {"model_state_dict", "config"}


def recognizes(path: Path) -> bool:
    """Whether ``path`` is a PyTorch archive with SevenNet's keys."""
    try:
        checkpoint = _read(path)
    except UnsafePickleError:
        return False
    config = checkpoint.get("config") if isinstance(checkpoint, Mapping) and checkpoint.keys() >= _KEYS else None
    return isinstance(config, Mapping) and "chemical_species" in config


def modalities(path: Path) -> tuple[str, ...]:
    """Levels of theory of a multi-fidelity model, in the model's order; empty for others."""
    return _settings(path, _read_or_refuse(path)["config"]).modalities


def convert(path: Path, *, modal: str | None = None) -> Converted:
    """Read a checkpoint of SevenNet.

    Parameters
    ----------
    path : Path
        The file.
    modal : str, optional
        Level of theory of a multi-fidelity model, such as "PBE".

    Raises
    ------
    ForeignModelError
        If the file is damaged, its model cannot be represented, or ``modal`` is missing or not one of its own.
    """
    checkpoint = _read_or_refuse(path)
    settings = _settings(path, checkpoint["config"])
    index = _modality(path, settings.modalities, modal)
    available = sum(tensor.numel() for tensor in checkpoint["model_state_dict"].values())
    if settings.num_weights() > available:  # before as many are made
        raise ForeignModelError(
            f"{path}: this SevenNet model has {available} numbers, its configuration asks for {settings.num_weights()}"
        )
    try:
        with torch.random.fork_rng(devices=[]):  # building draws random weights
            potential = Potential(settings.ours())
        with torch.no_grad():
            fill_potential(potential, settings, _renamed(checkpoint["model_state_dict"]), index)
    except (ConfigError, ValueError) as error:
        raise ForeignModelError(f"{path}: not a SevenNet model that can be read: {_first_line(error)}") from None
    epoch = checkpoint.get("epoch")
    card = ModelCard(
        name=f"{name_of_model(path)}-{modal}" if modal else name_of_model(path),
        description=f"converted from the SevenNet checkpoint {Path(path).name}"
        + (f", modality {modal}" if modal else ""),
        citation="Y. Park, J. Kim, S. Hwang, S. Han, J. Chem. Theory Comput. 20, 4857 (2024)",
        reference_energies=dict(zip(settings.species, potential.scaling.shift.tolist(), strict=True)),
        training={"sevenn_version": settings.version, "epoch": epoch if isinstance(epoch, (int, str)) else None},
    )
    return Converted(potential.requires_grad_(False), card, settings.modalities)


def _read(path: Path) -> Any:
    with TorchArchive(path) as archive:
        return archive.load()


def _read_or_refuse(path: Path) -> Mapping[str, Any]:
    try:
        checkpoint = _read(path)
    except UnsafePickleError as error:
        raise ForeignModelError(f"{path}: not a SevenNet checkpoint that can be read: {error}") from None
    if not isinstance(checkpoint, Mapping) or not checkpoint.keys() >= _KEYS:
        raise ForeignModelError(f"{path}: not a SevenNet checkpoint: it has no {' and '.join(sorted(_KEYS))}")
    state = checkpoint["model_state_dict"]
    if not isinstance(checkpoint["config"], Mapping) or not isinstance(state, Mapping):
        raise ForeignModelError(f"{path}: not a SevenNet checkpoint: its config or model_state_dict is no dict")
    if strange := [name for name, value in state.items() if not isinstance(name, str) or not torch.is_tensor(value)]:
        raise ForeignModelError(f"{path}: not a SevenNet checkpoint: its state {strange[0]!r} is no tensor")
    return checkpoint


def _settings(path: Path, config: Mapping[str, Any]) -> SevenNetSettings:
    try:
        return SevenNetSettings.of_checkpoint(config)
    except ConfigError as error:
        raise ForeignModelError(f"{path}: this SevenNet model cannot be represented: {_first_line(error)}") from None


def _first_line(error: ValueError) -> str:
    """A configuration's first fault: the others often follow from it."""
    return str(error).partition("\n")[0]


def _modality(path: Path, known: tuple[str, ...], modal: str | None) -> int | None:
    if not known:
        if modal is not None:
            raise ForeignModelError(f"{path}: this model has one level of theory; leave out modal={modal!r}")
        return None
    if modal not in known:
        choices = " or ".join(f"modal={name!r}" for name in known)
        problem = "needs a level of theory" if modal is None else f"knows no modal={modal!r}"
        raise ForeignModelError(f"{path}: this model {problem}: choose {choices}")
    return known.index(modal)


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with the names that versions since 0.10 give, in float64."""
    old = {
        "EdgeEmbedding": "edge_embedding",
        "reducing nn input to hidden": "reduce_input_to_hidden",
        "reducing nn hidden to energy": "reduce_hidden_to_energy",
        "rescale atomic energy": "rescale_atomic_energy",
    }
    result = {}
    for name, value in state.items():
        module, _, rest = name.partition(".")
        module = old.get(module, module.replace(" ", "_"))
        result[f"{module}.{rest.replace('denumerator', 'denominator')}"] = value.to(torch.float64)
    return result
