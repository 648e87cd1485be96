"""NequIP models: the Lightning checkpoints of ``nequip-train`` and the archives of ``nequip-package``.

A checkpoint has the arguments of the model's builder beside its state dict; a package has the pickled
modules, whose attributes say the same (`nequip_package`). Both are read as data: no code of the file is
run, and nequip is not needed. `nequip_weights` has what differs between its conventions and ours.

Where nequip keeps an exponential moving average of the weights, these are the ones it evaluates, packages
and compiles; they are taken here, too.

References
----------
Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv:2101.03164; Tan et al., arXiv:2504.16068; nequip 0.19.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ase_equivariant.config import ConfigError
from ase_equivariant.io.file_kind import name_of_model
from ase_equivariant.io.foreign import nequip_package
from ase_equivariant.io.foreign.converted import Converted, ForeignModelError
from ase_equivariant.io.foreign.nequip_settings import NequIPSettings, settings_of_builder
from ase_equivariant.io.foreign.nequip_tensors import NequIPFileError, NequIPTensors, check_constants, check_size
from ase_equivariant.io.foreign.nequip_weights import fill_potential, parameter_names
from ase_equivariant.io.foreign.safe_pickle import UnsafePickleError
from ase_equivariant.io.foreign.torch_archive import TorchArchive
from ase_equivariant.io.model_file import ModelCard
from ase_equivariant.potential.potential import Potential

_MODEL = "model.sole_model.model.func."
# What their networks compute, and by which defaults, is the same.
_VERSIONS = ("0.17", "0.18", "0.19")
# Lightning modules of nequip whose weights are in the state dict as they are evaluated, EMA or not.
_MODULES = ("NequIPLightningModule", "EMALightningModule", "ConFIGLightningModule", "EMAConFIGLightningModule")


def recognizes(path: Path) -> bool:
    """Whether ``path`` is an archive of ``nequip-package`` or a checkpoint of ``nequip-train``."""
    try:
        if _packaged_model(path) is not None:
            return True
        with TorchArchive(path) as archive:
            checkpoint = archive.load()
        return isinstance(checkpoint, Mapping) and "info_dict" in dict(checkpoint.get("hyper_parameters") or {})
    except (UnsafePickleError, TypeError, ValueError):
        return False


def convert(path: Path, *, modal: str | None = None) -> Converted:
    """Read a checkpoint or a package of NequIP.

    Parameters
    ----------
    path : Path
        The file.
    modal : None
        NequIP's models have one level of theory.

    Raises
    ------
    ForeignModelError
        If the file is damaged or its model cannot be represented; the message says what stands against it.
    """
    if modal is not None:
        raise ForeignModelError(f"{path}: a NequIP model has no modalities; leave out modal={modal!r}")
    try:
        entry = _packaged_model(path)
        with TorchArchive(path) as archive:
            if entry is None:
                settings, tensors = settings_and_tensors(archive.load())
            else:
                _check_version(_version_of_package(archive))
                settings, tensors = nequip_package.settings_and_tensors(archive.load(entry))
        potential = build(settings, tensors)
    except (UnsafePickleError, ConfigError, NequIPFileError) as error:
        reason = str(error).replace("\n", "; ")
        raise ForeignModelError(f"{path}: not a NequIP model that can be read: {reason}") from None
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        # Whatever a damaged or made-up file has in the place of what nequip writes.
        raise ForeignModelError(f"{path}: not arranged as nequip arranges its files: {error!r}") from None
    card = ModelCard(
        name=name_of_model(path),
        description=f"converted from the NequIP {'package' if entry else 'checkpoint'} {Path(path).name}",
        citation="Batzner et al., Nat. Commun. 13, 2453 (2022); Tan et al., arXiv:2504.16068",
        reference_energies=dict(zip(potential.species, potential.scaling.shift.tolist(), strict=True)),
    )
    return Converted(potential, card)


def _packaged_model(path: Path) -> str | None:
    """The entry of the eager model's pickle in a package of nequip, below the archive's one folder."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        entries = [name.partition("/")[2] for name in archive.namelist()]
    return next((name for name in entries if name.startswith("model/") and name.endswith("_model.pkl")), None)


def settings_and_tensors(checkpoint: Mapping[str, Any]) -> tuple[NequIPSettings, dict[str, Tensor]]:
    """What a checkpoint says of the model, and the tensors it is evaluated with."""
    try:
        hyper = checkpoint["hyper_parameters"]
        module = str(hyper["info_dict"]["training_module"]["_target_"])
        _check_version(str(hyper["info_dict"]["versions"]["nequip"]))
        settings = settings_of_builder(dict(hyper["model"]))
        state = checkpoint["state_dict"]
    except (KeyError, TypeError) as error:
        raise NequIPFileError(f"it is not a checkpoint of nequip-train: {error!r} is missing") from None
    if module.removeprefix("nequip.train.") not in _MODULES:
        raise NequIPFileError(
            f"it was trained by {module}, which may not evaluate the weights it stores; "
            "convert what `nequip-package build` makes of it instead"
        )
    model = {name: value for name, value in state.items() if name.startswith("model.") and not name.endswith("._empty")}
    if strange := [name for name in model if not name.startswith(_MODEL)]:
        raise NequIPFileError(f"it has other models than the one called sole_model: {strange[0]}")
    tensors = {name.removeprefix(_MODEL): value for name, value in model.items()}
    average = [name for name in state if name.startswith("ema.ema_weight_")]
    if average:
        tensors.update(_averaged(state, settings, len(average)))
    return settings, tensors


def _version_of_package(archive: TorchArchive) -> str:
    """What wrote the package. Its metadata are YAML: ``versions:`` and a line for each package under it."""
    text = archive.read("model/package_metadata.txt").decode("utf-8", "replace")
    found = re.search(r"^ +nequip: *['\"]?([^\s'\"]+)", text, re.MULTILINE)
    if found is None:
        raise NequIPFileError("its metadata do not say which version of nequip wrote it")
    return found[1]


def _check_version(version: str) -> None:
    """Refuse files of other versions: defaults, and what a setting means, have changed between them."""
    if ".".join(version.split(".")[:2]) not in _VERSIONS:
        raise NequIPFileError(f"it was made by nequip {version}; files of {', '.join(_VERSIONS)} are understood")


def _averaged(state: Mapping[str, Any], settings: NequIPSettings, count: int) -> dict[str, Tensor]:
    """The moving averages by the names of the weights they are of: nequip numbers them in the modules' order."""
    names = parameter_names(settings)
    if len(names) != count or not dict(state.get("ema._extra_state", {})).get("is_holding_ema_weights", False):
        raise NequIPFileError(f"its {count} averaged weights are not those of its {len(names)} parameters")
    return {name: state[f"ema.ema_weight_{k}"] for k, name in enumerate(names)}


def build(settings: NequIPSettings, tensors: dict[str, Tensor]) -> Potential:
    """A potential of ours with the tensors of a file."""
    check_size(tensors, settings)
    left = NequIPTensors(tensors)
    with torch.random.fork_rng(devices=[]):  # building draws random weights
        potential = Potential(settings.ours())
    with torch.no_grad():
        fill_potential(potential, settings, left.take)
        potential.scaling.set(
            scale=left.per_type("per_type_energy_scale_shift.scales", len(settings.type_names), 1.0),
            shift=left.per_type("per_type_energy_scale_shift.shifts", len(settings.type_names), 0.0),
        )
    check_constants(left, settings)
    left.finish()
    return potential.requires_grad_(False)
