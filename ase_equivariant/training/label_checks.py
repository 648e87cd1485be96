"""Whether the data has what the loss asks for, and the model what the data has."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

from ase_equivariant.potential.readout_config import DipoleConfig
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import Batch
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.readout_labels import label_option

_BORN = "born_effective_charges"


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
                raise DataError(
                    f"no {part} structure has {name}, but its weight in the loss is {term.weight:g}: "
                    f"set loss.readouts.{name}.weight to 0, or say where they are with data.{label_option(name)}"
                )


def check_born_charges(config: TrainConfig, parts: Mapping[str, Iterable[Frame]]) -> None:
    """Refuse, before the first step, what the potential would refuse in a batch or at the end of the run.

    A batch that has one label computes them for all its structures, whatever their weight in the loss. Structures are
    looked at only where the configuration names such labels, once each, as they may be streamed.

    Raises
    ------
    DataError
        If a part has Born effective charges and periodic structures, and the dipole is one of point charges, too.
    """
    charged = any(isinstance(readout, DipoleConfig) and readout.charges for readout in config.model.readouts)
    named = {*config.data.readout_keys, *(config.finetune.replay.readout_keys if config.finetune.replay else ())}
    if not charged or _BORN not in named:
        return
    for part, frames in parts.items():
        labelled = periodic = False
        for frame in frames:
            labelled |= _BORN in frame.readouts
            periodic |= bool(frame.atoms.pbc.any())
            if labelled and periodic:
                raise DataError(
                    f"{part} structures have Born effective charges and some are periodic, where point charges have no "
                    "dipole: set charges = false in the dipole of [[model.readouts]], or leave out "
                    f"data.readout_keys.{_BORN}"
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
    if _BORN in taught:
        taught.add("dipole")
    random = [name for name in terms if name not in taught and name != _BORN]
    if random and config.init is None:
        warnings.warn(
            f"nothing teaches the read-out {', '.join(random)}, whose weight in the loss is 0: it will be random; "
            "give it one, or take it out of [[model.readouts]]",
            UserWarning,
            stacklevel=2,
        )
