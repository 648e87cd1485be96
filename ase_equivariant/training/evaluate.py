"""What a model is worth on labelled structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols

from ase_equivariant.potential import Potential
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.training.dataset import Batch, to_batch
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.loss import check_shapes, shaped_label
from ase_equivariant.training.readers import DataError


@dataclass(frozen=True)
class Comparison:
    """Reference and predicted values of one quantity in eV, eV/atom, eV/Å or eV/Å³, flat, or of read-outs (n, …)."""

    reference: np.ndarray
    predicted: np.ndarray

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self.predicted - self.reference).mean())

    @property
    def rmse(self) -> float:
        """Root mean square error."""
        return float(np.sqrt(np.square(self.predicted - self.reference).mean()))

    @property
    def spread(self) -> float:
        """Standard deviation of the reference: the error of a model that says the mean, of tensors by component."""
        return float(np.sqrt(np.square(self.reference - self.reference.mean(axis=0)).mean()))

    @property
    def largest(self) -> float:
        """Largest absolute error."""
        return float(np.abs(self.predicted - self.reference).max())


@dataclass(frozen=True)
class Evaluation:
    """Comparisons by quantity: ``energy``, ``energy_per_atom``, ``forces``, ``forces_X`` by element, ``stress``,
    and other read-outs by their names."""

    comparisons: dict[str, Comparison]
    num_structures: int
    num_atoms: int

    def errors(self) -> dict[str, float]:
        """MAE and RMSE under names with units (meV, meV/atom, meV/Å, meV/Å³), of read-outs the labels' spread, too."""
        result = {}
        for name, comparison in self.comparisons.items():
            result[f"{name} MAE ({unit(name)})"] = 1000 * comparison.mae
            result[f"{name} RMSE ({unit(name)})"] = 1000 * comparison.rmse
            if not name.startswith(("energy", "forces", "stress")):
                result[f"{name} spread ({unit(name)})"] = 1000 * comparison.spread
        return result


def unit(quantity: str) -> str:
    """Unit in which errors of a quantity are printed."""
    kind = quantity.split("_")[0] if quantity.startswith("forces") else quantity
    return _UNITS.get(kind, "10⁻³")


_UNITS = {
    "energy": "meV",
    "energy_per_atom": "meV/atom",
    "forces": "meV/Å",
    "stress": "meV/Å³",
    "dipole": "10⁻³ e·Å",
    "polarizability": "10⁻³ e²·Å²/eV",
    "charges": "10⁻³ e",
    "born_effective_charges": "10⁻³ e",
}


def evaluate(potential: Potential | FrozenPotential, frames: Sequence[Frame], batch_size: int = 20) -> Evaluation:
    """Compare a potential with the labels of ``frames``; missing labels are left out.

    Parameters
    ----------
    potential : Potential or FrozenPotential
        Used on its device and in its dtype.
    frames : sequence of Frame
        From :func:`ase_equivariant.training.readers.read_frames`.
    batch_size : int
        Structures at a time.

    Raises
    ------
    UnknownElementError
        If a structure holds an element that the potential does not know.
    DataError
        If no structure has a label, or one of another shape than the prediction.
    ValueError
        If ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}: evaluate one structure at a time or more")
    check_comparable(potential, frames)
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for start in range(0, len(frames), batch_size):
        samples = [to_batch(f, potential.cutoff, torch.float64) for f in frames[start : start + batch_size]]
        batch = Batch.collate(samples).to(potential.device)
        for name, reference, predicted in _compare(potential, batch):
            if reference.numel():
                shaped = _array if name in batch.readouts else _flat
                pairs.setdefault(name, []).append((shaped(reference), shaped(predicted)))
    names = sorted(pairs, key=lambda name: (name.startswith("forces_"), name == "stress"))
    comparisons = {
        name: Comparison(np.concatenate([a for a, _ in pairs[name]]), np.concatenate([b for _, b in pairs[name]]))
        for name in names
    }
    return Evaluation(comparisons, len(frames), sum(len(frame.atoms) for frame in frames))


def check_comparable(potential: Potential | FrozenPotential, frames: Sequence[Frame], part: str = "") -> None:
    """Refuse structures that :func:`evaluate` cannot take, without evaluating any.

    Parameters
    ----------
    potential : Potential or FrozenPotential
        Trained or not.
    frames : sequence of Frame
        To be evaluated.
    part : str
        Which part of the data they are, for messages.

    Raises
    ------
    DataError
        If no structure has a label, or one of another shape than the prediction.
    """
    kind = f"{part} structure".strip()
    known = potential.config.readouts if isinstance(potential, Potential) else ()
    readouts = {readout.key: readout for readout in known}
    compared = {*readouts, *(["born_effective_charges"] if "dipole" in readouts else [])}
    if not any(f.energy is not None or f.forces is not None or compared & f.readouts.keys() for f in frames):
        names = ", ".join(["an energy", "forces", *readouts])
        raise DataError(f"no {kind} has any of {names}: there is nothing to compare with")
    check_readout_shapes(potential, frames, part)


def check_readout_shapes(potential: Potential | FrozenPotential, frames: Sequence[Frame], part: str = "") -> None:
    """Refuse labels of another shape than the prediction; the arguments are those of :func:`check_comparable`.

    Raises
    ------
    DataError
        Names the structure and the read-out.
    """
    kind = f"{part} structure".strip()
    known = potential.config.readouts if isinstance(potential, Potential) else ()
    readouts = {readout.key: readout for readout in known}
    for k, frame in enumerate(frames) if readouts else ():
        for name in readouts.keys() & frame.readouts.keys():
            label, rows = frame.readouts[name], len(frame.atoms) if readouts[name].per_atom else 1
            found = label.values.shape if label.per_atom else (1, *label.values.shape)
            try:
                check_shapes(name, found, (rows, *readouts[name].shape()))
            except DataError as error:
                raise DataError(f"{kind} {k}: {error}") from None


def _flat(values: torch.Tensor) -> np.ndarray:
    return values.detach().to("cpu", torch.float64).reshape(-1).numpy()


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().to("cpu", torch.float64).numpy()


def _compare(potential: Potential | FrozenPotential, batch: Batch) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    stress = bool(batch.has_stress.any())
    if isinstance(potential, Potential) and "dipole" in potential.readouts:
        born = "born_effective_charges" in batch.readouts
        prediction = potential(batch.graph, stress=stress, born_charges=born)
    else:
        prediction = potential(batch.graph, stress=stress)
    labelled, atoms = batch.has_energy, batch.num_atoms
    rows = [
        ("energy", batch.energy[labelled], prediction["energy"][labelled]),
        ("energy_per_atom", (batch.energy / atoms)[labelled], (prediction["energy"] / atoms)[labelled]),
        ("forces", batch.forces[batch.has_forces], prediction["forces"][batch.has_forces]),
    ]
    numbers = batch.graph.atomic_numbers
    for number in torch.unique(numbers).tolist():
        own = batch.has_forces & (numbers == number)
        rows.append((f"forces_{chemical_symbols[number]}", batch.forces[own], prediction["forces"][own]))
    if "stress" in prediction:
        rows.append(("stress", batch.stress[batch.has_stress], prediction["stress"][batch.has_stress]))
    for name, label in batch.readouts.items():
        if name in prediction:
            found: torch.Tensor = prediction[name]
            rows.append((name, shaped_label(name, label.values, found)[label.mask], found[label.mask]))
    return rows
