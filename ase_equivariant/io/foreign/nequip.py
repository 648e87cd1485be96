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

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ase_equivariant.io.foreign.nequip_settings import NequIPSettings, settings_of_builder
from ase_equivariant.io.foreign.nequip_tensors import NequIPFileError, NequIPTensors, check_constants
from ase_equivariant.io.foreign.nequip_weights import fill_potential, parameter_names
from ase_equivariant.potential.potential import Potential

_MODEL = "model.sole_model.model.func."
# Lightning modules of nequip whose weights are in the state dict as they are evaluated, EMA or not.
_MODULES = ("NequIPLightningModule", "EMALightningModule", "ConFIGLightningModule", "EMAConFIGLightningModule")


def settings_and_tensors(checkpoint: Mapping[str, Any]) -> tuple[NequIPSettings, dict[str, Tensor]]:
    """What a checkpoint says of the model, and the tensors it is evaluated with."""
    try:
        hyper = checkpoint["hyper_parameters"]
        module = str(hyper["info_dict"]["training_module"]["_target_"])
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


def _averaged(state: Mapping[str, Any], settings: NequIPSettings, count: int) -> dict[str, Tensor]:
    """The moving averages by the names of the weights they are of: nequip numbers them in the modules' order."""
    names = parameter_names(settings)
    if len(names) != count or not dict(state.get("ema._extra_state", {})).get("is_holding_ema_weights", False):
        raise NequIPFileError(f"its {count} averaged weights are not those of its {len(names)} parameters")
    return {name: state[f"ema.ema_weight_{k}"] for k, name in enumerate(names)}


def build(settings: NequIPSettings, tensors: dict[str, Tensor]) -> Potential:
    """A potential of ours with the tensors of a file."""
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
