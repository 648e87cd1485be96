"""Starting from a trained model: its weights, reference energies, frozen parts, and what it must not forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.io import read

from ase_equivariant.config import ConfigError
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.model_file import load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.potential import Potential
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.readers import DataError, read_frames
from ase_equivariant.training.references import composition


@dataclass(frozen=True)
class Parent:
    """The model a run starts from; ``potential`` is in float64 and stays as it is."""

    name: str
    sha256: str
    potential: Potential


def load_parent(config: TrainConfig) -> Parent:
    """The initial model, verified on the way."""
    assert config.init is not None
    loaded = load_model(resolve(config.init, config.finetune.modal))
    return Parent(loaded.card.name, loaded.header.sha256, loaded.potential.to(torch.float64))


def predict_energies(potential: Potential, frames: Sequence[Frame]) -> np.ndarray:
    """Energies in eV, (len(frames),)."""
    graphs = (atoms_to_graph(frame.atoms, potential.cutoff) for frame in frames)
    return np.array([float(potential(graph, forces=False)["energy"][0]) for graph in graphs])


def refit_references(potential: Potential, frames: Sequence[Frame]) -> np.ndarray:
    """Move the shifts by what the potential is off, fitted per element; returns the moves in eV, (n_species,).

    The smallest moves that serve: elements that the structures lack stay, and where compositions do not
    tell elements apart the difference is shared among them.
    """
    labelled = [frame for frame in frames if frame.energy is not None]
    if not labelled:
        raise DataError("finetune.references: no training structure has an energy; set it to 'frozen'")
    counts = np.array([composition(frame, potential.species) for frame in labelled])
    off = np.array([frame.energy for frame in labelled], dtype=float) - predict_energies(potential, labelled)
    atoms = counts.sum(axis=1)
    moves, *_ = np.linalg.lstsq(counts / atoms[:, None], off / atoms, rcond=1e-8)
    potential.scaling.set(shift=potential.scaling.shift.numpy() + moves)
    return moves


def freeze(potential: Potential, names: Sequence[str]) -> None:
    """Let everything be trained but what ``names`` says.

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
    trained = 0
    for name, parameter in potential.named_parameters():
        parameter.requires_grad_(name not in kept)
        trained += name not in kept
    if not trained:
        raise ConfigError(f"finetune.freeze = {list(names)} leaves nothing to train: take something out")


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


def replay_frames(config: TrainConfig, parent: Parent, moves: np.ndarray) -> list[Frame]:
    """What the parent knew, with energies counted from the run's reference energies.

    ``moves`` are those of :func:`refit_references`: the labels are of the parent's level of theory, whose
    elements count from elsewhere.
    """
    replay = config.finetune.replay
    if replay is None:
        return []
    if replay.labelled_by == "files":
        frames = read_frames(replay.files, replay.label_config())[: replay.num_structures]
        _refuse_unknown([frame.atoms for frame in frames], parent)
    else:
        paths = [replay.files] if isinstance(replay.files, str) else replay.files
        structures = [atoms for path in paths for atoms in read(path, ":")][: replay.num_structures]
        _refuse_unknown(structures, parent)
        frames = [_labelled(Frame(atoms), parent.potential) for atoms in structures]
    species = parent.potential.species
    shifts = [float(composition(frame, species) @ moves) for frame in frames]
    return [
        frame if frame.energy is None else replace(frame, energy=frame.energy + shift)
        for frame, shift in zip(frames, shifts, strict=True)
    ]


def _refuse_unknown(structures: Sequence[Atoms], parent: Parent) -> None:
    unknown = sorted({symbol for atoms in structures for symbol in atoms.symbols} - set(parent.potential.species))
    if unknown:
        raise DataError(f"finetune.replay has {', '.join(unknown)}, which {parent.name} does not know")


def _labelled(frame: Frame, potential: Potential) -> Frame:
    with_cell = frame.atoms.cell.rank == 3
    found = potential(atoms_to_graph(frame.atoms, potential.cutoff), stress=with_cell)
    stress = found["stress"][0].numpy() if "stress" in found else None
    return replace(frame, energy=float(found["energy"][0]), forces=found["forces"].numpy(), stress=stress)
