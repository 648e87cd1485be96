"""Starting from a trained model: its weights, reference energies, frozen parts, and what it must not forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ase_equivariant.config import ConfigError
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.model_file import load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.potential import Potential
from ase_equivariant.potential.readout_config import readouts_of_atoms
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.frames import Frame, Label
from ase_equivariant.training.readers import DataError, read_frames, read_structures
from ase_equivariant.training.references import composition


@dataclass(frozen=True)
class Parent:
    """The model a run starts from; ``potential`` is in float64 and stays as it is."""

    name: str
    sha256: str
    license: str
    potential: Potential

    def describe(self) -> dict[str, str]:
        """What a card says of it."""
        return {"name": self.name, "sha256": self.sha256, "license": self.license}


def load_parent(config: TrainConfig) -> Parent:
    """The initial model, verified on the way."""
    assert config.init is not None
    loaded = load_model(resolve(config.init, config.finetune.modal))
    return Parent(loaded.card.name, loaded.header.sha256, loaded.card.license, loaded.potential.to(torch.float64))


def predict_energy(potential: Potential, frame: Frame) -> float:
    """Energy in eV."""
    return float(potential(atoms_to_graph(frame.atoms, potential.cutoff), forces=False)["energy"][0])


def refit_references(potential: Potential, frames: Sequence[Frame]) -> np.ndarray:
    """Move the shifts by what the potential is off, fitted per element; returns the moves in eV, (n_species,).

    The smallest moves that serve: elements that the structures lack stay, and where compositions do not
    tell elements apart the difference is shared among them.
    """
    labelled = [
        (composition(frame, potential.species), frame.energy - predict_energy(potential, frame))
        for frame in frames
        if frame.energy is not None
    ]
    if not labelled:
        raise DataError("finetune.references: no training structure has an energy; set it to 'frozen'")
    counts, off = (np.array(column, dtype=float) for column in zip(*labelled, strict=True))
    atoms = counts.sum(axis=1)
    moves, *_ = np.linalg.lstsq(counts / atoms[:, None], off / atoms, rcond=1e-8)
    potential.scaling.set(shift=potential.scaling.shift.numpy() + moves)
    return moves


def freeze(potential: Potential, names: Sequence[str]) -> None:
    """Let everything be trained but what ``names`` says, and what the model's own configuration keeps fixed.

    Raises
    ------
    ConfigError
        If a name is not known, or nothing is left to train.
    """
    known = frozen_parts(potential)
    for name in names:
        if name not in known:
            raise ConfigError(f"finetune.freeze: no part is called {name!r}: choose from {', '.join(known)}")
    kept = {parameter for name in names for parameter in known[name]}
    trained = _trainable(potential) - kept
    if not trained:
        raise ConfigError(f"finetune.freeze = {list(names)} leaves nothing to train: take something out")
    for name, parameter in potential.named_parameters():
        parameter.requires_grad_(name in trained)


def _trainable(potential: Potential) -> set[str]:
    """Names of the parameters that training from scratch would move: fixed wave numbers are none, for one."""
    with torch.random.fork_rng(devices=[]):  # building draws random weights
        untrained = Potential(potential.config)
    return {name for name, parameter in untrained.named_parameters() if parameter.requires_grad}


def frozen_parts(potential: Potential) -> dict[str, list[str]]:
    """Names that :func:`freeze` knows, and the parameters each stands for."""
    parts: dict[str, list[str]] = {"embedding": [], "basis": [], "radial": [], "readout": [], "layers": []}
    for name, _ in potential.named_parameters():
        module = name.removeprefix("network.")
        head, *rest = module.split(".")
        parts.setdefault(head, []).append(name)
        if head == "layers":
            parts.setdefault(f"layers.{rest[0]}", []).append(name)
        if ".radial." in module:
            parts["radial"].append(name)
    return {part: parameters for part, parameters in parts.items() if parameters}


def replay_sources(config: TrainConfig, parent: Parent) -> list[Frame]:
    """What is to be replayed, as the files have it; without labels if the initial model gives them.

    Raises
    ------
    DataError
        If a file cannot be used, or holds an element that the initial model does not know.
    """
    replay = config.finetune.replay
    if replay is None:
        return []
    if replay.labelled_by == "files":
        of_atoms = readouts_of_atoms(config.model.readouts)
        frames = read_frames(replay.files, replay.label_config(), of_atoms=of_atoms)[: replay.num_structures]
    else:
        frames = read_structures(replay.files, replay.label_config())[: replay.num_structures]
    found = {symbol for frame in frames for symbol in frame.atoms.symbols}
    unknown = sorted(found - set(parent.potential.species))
    if unknown:
        raise DataError(f"finetune.replay has {', '.join(unknown)}, which {parent.name} does not know")
    for name, weight in replay.weights.model_dump(exclude_none=True).items():
        if replay.labelled_by == "files" and weight > 0 and all(getattr(frame, name) is None for frame in frames):
            raise DataError(f"no replayed structure has {name}, but finetune.replay.weights.{name} is {weight:g}")
    return frames


def label_replay(config: TrainConfig, parent: Parent, frames: Sequence[Frame], moves: np.ndarray) -> list[Frame]:
    """Replayed structures with labels and energies that count from the run's reference energies.

    ``moves`` are those of :func:`refit_references`: the labels are of the parent's level of theory, whose
    elements count from elsewhere.
    """
    replay, species = config.finetune.replay, parent.potential.species
    if replay is not None and replay.labelled_by == "init":
        frames = [_labelled(frame, parent.potential) for frame in frames]
    shifts = [float(composition(frame, species) @ moves) for frame in frames]
    return [
        frame if frame.energy is None else replace(frame, energy=frame.energy + shift)
        for frame, shift in zip(frames, shifts, strict=True)
    ]


def _labelled(frame: Frame, potential: Potential) -> Frame:
    with_cell = frame.atoms.cell.rank == 3
    found = potential(atoms_to_graph(frame.atoms, potential.cutoff), stress=with_cell)
    stress = found["stress"][0].numpy() if "stress" in found else None
    readouts = {
        r.key: Label(found[r.key].numpy() if r.per_atom else found[r.key][0].numpy(), r.per_atom)
        for r in potential.config.readouts
        if r.key in found
    }
    energy, forces = float(found["energy"][0]), found["forces"].numpy()
    return replace(frame, energy=energy, forces=forces, stress=stress, readouts=readouts)
