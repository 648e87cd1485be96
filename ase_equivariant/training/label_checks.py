"""Whether the data has what the loss asks for, and the model what the data has."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from ase_equivariant.potential.readout_config import DipoleConfig
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import Batch
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.readers import DataError


def check_labels(config: TrainConfig, parts: Mapping[str, Sequence[Batch]]) -> None:
    """Refuse data without a single label for a term of the loss."""
    for part, samples in parts.items():
        for name in ("energy", "forces", "stress"):
            weight = getattr(config.loss, name).weight
            if weight > 0 and not any(bool(getattr(sample, f"has_{name}").any()) for sample in samples):
                raise DataError(
                    f"no {part} structure has {name}, but loss.{name}.weight is {weight:g}: "
                    f"set it to 0, or say where they are with data.{name}_key"
                )
        for name, term in config.loss.readout_terms([readout.key for readout in config.model.readouts]).items():
            if term.weight > 0 and not any(name in sample.readouts for sample in samples):
                where = f"{name}_key" if f"{name}_key" in LabelConfig.model_fields else f"readout_keys.{name}"
                raise DataError(
                    f"no {part} structure has {name}, but its weight in the loss is {term.weight:g}: "
                    f"set loss.readouts.{name}.weight to 0, or say where they are with data.{where}"
                )
    _check_born_charges(config, parts)


def _check_born_charges(config: TrainConfig, parts: Mapping[str, Sequence[Batch]]) -> None:
    """Refuse, before the first step, what the potential would refuse at it."""
    dipoles = [readout for readout in config.model.readouts if isinstance(readout, DipoleConfig) and readout.charges]
    terms = config.loss.readout_terms([readout.key for readout in config.model.readouts])
    if not dipoles or "born_effective_charges" not in terms or terms["born_effective_charges"].weight == 0:
        return
    for part, samples in parts.items():
        if any(
            "born_effective_charges" in sample.readouts and bool(sample.graph.is_periodic.any()) for sample in samples
        ):
            raise DataError(
                f"{part} structures with Born effective charges are periodic, where point charges have no dipole: set "
                "charges = false in the dipole of [[model.readouts]]"
            )


def warn_of_idle_readouts(config: TrainConfig) -> None:
    """Warn of labels that are named and that no read-out takes, and of read-outs that nothing teaches."""
    terms = config.loss.readout_terms([readout.key for readout in config.model.readouts])
    named = [
        name for name in ("dipole", "polarizability", "charges") if getattr(config.data, f"{name}_key") is not None
    ]
    idle = [name for name in (*named, *config.data.readout_keys) if name not in terms]
    if idle:
        warnings.warn(
            f"data names labels of {', '.join(idle)}, which the model does not predict: list it in [[model.readouts]], "
            "or leave the labels out",
            UserWarning,
            stacklevel=2,
        )
    taught = {name for name, term in terms.items() if term.weight > 0}
    if "born_effective_charges" in taught:
        taught.add("dipole")
    random = [name for name in terms if name not in taught and name != "born_effective_charges"]
    if random and config.init is None:
        warnings.warn(
            f"nothing teaches the read-out {', '.join(random)}, whose weight in the loss is 0: it will be random; "
            "give it one, or take it out of [[model.readouts]]",
            UserWarning,
            stacklevel=2,
        )
