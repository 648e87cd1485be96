"""From configuration and data to an untrained potential and to the words about it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ase_equivariant.graph.convert import total_charge
from ase_equivariant.io.model_file import ModelCard
from ase_equivariant.potential import Potential
from ase_equivariant.potential.restrict import restrict_species
from ase_equivariant.precision import parse_dtype
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.dataset import Batch, make_samples, make_training_samples, mean_neighbors
from ase_equivariant.training.evaluate import Evaluation
from ase_equivariant.training.finetune import freeze, label_replay, load_parent, refit_references, replay_sources
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.labels import listed
from ase_equivariant.training.loader import replay_count
from ase_equivariant.training.readers import DataError
from ase_equivariant.training.readout_labels import set_readout_scales
from ase_equivariant.training.references import energy_scales, reference_energies, species_of
from ase_equivariant.training.splits import Splits
from ase_equivariant.training.streaming import OnDemand


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes
    ----------
    potential : Potential
        In the run's dtype; what is not to be trained does not require gradients.
    config : TrainConfig
        Resolved.
    samples, replay : sequence of Batch
        Training structures, and those that are mixed in, as tensors.
    parent : dict
        Name, sha256 and licence of the model it starts from; empty if from random weights.
    replay_source : list of Frame
        The structures mixed in as the files have them.
    """

    potential: Potential
    config: TrainConfig
    samples: Sequence[Batch]
    replay: Sequence[Batch]
    parent: dict[str, str]
    replay_source: list[Frame]

    def describe(self) -> dict[str, Any]:
        """What the card says of it; nothing if from random weights."""
        if not self.parent:
            return {}
        again = self.config.finetune.replay
        about = {"structures": len(self.replay), "labelled_by": again.labelled_by} if again is not None else None
        return {"parent": self.parent, **({"replay": about} if about else {})}


def build_start(config: TrainConfig, splits: Splits) -> Start:
    """The potential that is about to be trained: untrained, or the initial model fitted to the data.

    Raises
    ------
    DataError
        If the data has an element that the model does not know, or no labels to fit.
    """
    if config.init is None:
        return Start(*build_potential(config, splits), [], {}, [])
    config = config.with_architecture(species=_resolve_species(config, splits))
    dtype = parse_dtype(config.run.dtype)
    parent = load_parent(config)
    freeze(deepcopy(parent.potential), config.finetune.freeze)  # a wrong name is told before the work
    again = replay_sources(config, parent)
    samples = make_training_samples(splits.train, config.model.architecture.cutoff, dtype)
    potential = deepcopy(parent.potential)
    moves = np.zeros(len(potential.species))
    if config.finetune.references == "refitted":
        moves = refit_references(potential, splits.train)
    freeze(potential, config.finetune.freeze)
    labelled = label_replay(config, parent, again, moves)
    mark = torch.tensor([True])
    replay = [replace(s, replayed=mark) for s in make_samples(labelled, potential.cutoff, dtype)] if labelled else []
    return Start(potential.to(dtype), config, samples, replay, parent.describe(), again)


def build_potential(config: TrainConfig, splits: Splits) -> tuple[Potential, TrainConfig, Sequence[Batch]]:
    """An untrained potential for the data.

    Fills in what the configuration leaves to the data (species, mean number of
    neighbours), sets reference energies and scales.

    Returns
    -------
    tuple
        The potential in the run's dtype, the resolved configuration and the training structures as tensors.

    Raises
    ------
    DataError
        If the data has an element that the configuration does not list, or the training structures lack, or no
        labels to fit.
    """
    config = config.with_architecture(species=_resolve_species(config, splits))
    dtype = parse_dtype(config.run.dtype)
    samples = make_training_samples(splits.train, config.model.architecture.cutoff, dtype)
    if config.model.architecture.avg_num_neighbors is None:
        config = config.with_architecture(avg_num_neighbors=mean_neighbors(samples))
    species = config.model.architecture.species
    with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it was
        torch.manual_seed(config.run.seed)
        potential = Potential(config.model)
    shift = reference_energies(config.data, species, splits.train, splits.isolated_atoms)
    potential.scaling.set(scale=energy_scales(config.data, species, splits.train).tolist(), shift=shift.tolist())
    set_readout_scales(potential, splits.train)
    return potential.to(dtype), config, samples


def finished(potential: Potential, start: Start, splits: Splits) -> Potential:
    """What is written of a trained potential: without elements that nothing taught it, if the configuration says so."""
    if start.config.finetune.elements == "all":
        return potential
    return restrict_species(potential, species_of(chain(splits.train, start.replay_source)))


def _resolve_species(config: TrainConfig, splits: Splits) -> tuple[str, ...]:
    """Those of the configuration or of the initial model; else those that there is something to learn of.

    Only the initial model may know elements that no training structure has.
    """
    trained = species_of(splits.train)
    unseen = [symbol for symbol in species_of(chain(splits.validation, splits.test)) if symbol not in trained]
    if unseen and config.init is None:
        raise DataError(
            f"no training structure has {', '.join(unseen)}, but validation or test structures have, and the model "
            "cannot learn of them: leave those structures out, or choose others for training"
        )
    if config.species_from_data:
        return trained
    species = config.model.architecture.species
    if unknown := [symbol for symbol in (*trained, *unseen) if symbol not in species]:
        raise DataError(
            f"the data has {', '.join(unknown)}, which "
            + (
                f"{config.init} does not know: choose another model to start from"
                if config.init
                else f"model.architecture.species ({', '.join(species)}) lacks: add them or leave the key out"
            )
        )
    untrained = [symbol for symbol in species if symbol not in trained]
    if untrained and config.init is None:
        warnings.warn(
            f"no training structure has {', '.join(untrained)}, which model.architecture.species lists: the model "
            "will have random weights for them; leave them out",
            UserWarning,
            stacklevel=2,
        )
    return species


def make_fingerprint(start: Start, splits: Splits, parts: Mapping[str, Sequence[Batch]]) -> str:
    """sha256 of everything that decides the weights: configuration, initial model and structures with labels.

    Of replayed structures, those in the files: labels that the initial model gives differ in the last digit
    from one processor to the next, and a run may continue on another. Of streamed structures, their files and
    positions in them.
    """
    digest = hashlib.sha256(start.config.fingerprint().encode())
    digest.update(start.parent.get("sha256", "").encode())
    if splits.digest:
        digest.update(splits.digest + json.dumps(splits.indices).encode())
    others = bool(start.config.model.readouts)
    for part, samples in parts.items():
        digest.update(part.encode())
        for sample in samples if not isinstance(samples, OnDemand) else ():
            digest.update(_content_of_sample(sample, others))
    digest.update(b"replay")
    for frame in start.replay_source:
        digest.update(_content_of_frame(frame, others))
    return digest.hexdigest()


def _content_of_sample(sample: Batch, readouts: bool) -> bytes:
    """What a structure gives to learn from.

    A model with other read-outs learns of charges, of positions and of labels that others may lack; the content of
    a neutral structure for a model of energies alone is what it was before, so that runs go on.
    """
    graph = sample.graph
    tensors = [graph.atomic_numbers, graph.edge_vectors, sample.energy, sample.forces, sample.stress]
    if readouts:
        tensors += [t for t in (graph.positions, graph.is_periodic) if t is not None]
        tensors += [sample.has_energy, sample.has_forces, sample.has_stress]
    if readouts or bool(graph.total_charge.any()):
        tensors.append(graph.total_charge)
    content = [tensor.cpu().numpy().tobytes() for tensor in tensors]
    for name, label in sample.readouts.items():
        content += [name.encode(), label.values.cpu().numpy().tobytes()]
    return b"".join(content)


def _content_of_frame(frame: Frame, readouts: bool) -> bytes:
    """The same of a structure as its file has it."""
    atoms, charge = frame.atoms, total_charge(frame.atoms)
    content = [values.tobytes() for values in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)]
    for label in (frame.energy, frame.forces, frame.stress):
        content.append(b"none" if label is None else np.asarray(label, dtype=float).tobytes())
    if readouts or charge:
        content.append(np.float64(charge).tobytes())
    for name, known in frame.readouts.items() if readouts else ():
        content += [name.encode(), known.values.tobytes()]
    return b"".join(content)


def describe_splits(config: TrainConfig, splits: Splits) -> dict[str, Any]:
    """What ``splits.json`` holds: for each part its files, its size and its positions in the training files."""
    parts = {}
    for name, frames in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        if frames:
            files = config.data.train if name in splits.indices else getattr(config.data, name)
            parts[name] = {"files": listed(files), "size": len(frames)}
            if name in splits.indices:
                parts[name]["indices"] = splits.indices[name]
    return parts


def make_card(
    config: TrainConfig,
    potential: Potential,
    splits: Splits,
    record: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation] | None = None,
) -> ModelCard:
    """The model's card: what the configuration says of the data, the run's record, and errors by part of the data."""
    sizes = {name: part["size"] for name, part in describe_splits(config, splits).items()}
    given = {name: value for name, value in config.card.model_dump().items() if value}
    return ModelCard(
        name=config.run.name,
        **given,
        reference_energies=dict(zip(potential.species, potential.scaling.shift.tolist(), strict=True)),
        errors={
            f"{part} {name}": error
            for part, evaluation in (evaluations or {}).items()
            for name, error in evaluation.errors().items()
        },
        training={
            "structures": sizes,
            "parameters": sum(p.numel() for p in potential.parameters()),
            "config": _without_folders(config.model_dump(mode="json", exclude={"card": True, "run": {"folder"}})),
            **record,
        },
    )


_FILES = ("train", "validation", "test", "isolated_atoms", "files", "init")  # options that name them


def _without_folders(value: Any, option: str = "") -> Any:
    """The same with files by name: where they lie is the affair of who trained, not of who gets the model."""
    if isinstance(value, dict):
        return {key: _without_folders(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item, option) for item in value]
    return Path(value).name if isinstance(value, str) and option in _FILES else value


def summary(start: Start, splits: Splits) -> str:
    """One line on what is about to be trained."""
    potential, architecture = start.potential, start.config.model.architecture
    total, trained = (sum(p.numel() for p in ps) for ps in (potential.parameters(), _trained(potential)))
    mean = architecture.avg_num_neighbors  # of the initial model's own data, where there is one
    neighbors = f"{mean:.1f} neighbours within the " if mean is not None else ""
    parts = [
        f"{len(splits.train)} training and {len(splits.validation)} validation structures",
        f"species {' '.join(potential.species)}"
        if len(potential.species) < 20
        else f"{len(potential.species)} species",
        f"{neighbors}cutoff {architecture.cutoff:g} Å",
        f"{total} parameters" + (f", {total - trained} of them frozen" if trained < total else ""),
    ]
    again = start.config.finetune.replay
    if again is not None:
        count, size = replay_count(start.config.run.batch_size, again.fraction), start.config.run.batch_size
        parts.append(f"{count} of {size} in each batch from {len(start.replay)} replayed structures")
    if start.parent:
        parts.append(f"starting from {start.parent['name']}")
    return "; ".join(parts)


def _trained(potential: Potential) -> list[Tensor]:
    return [p for p in potential.parameters() if p.requires_grad]
