"""Errors of a prediction, the loss made of them and their statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from ase_equivariant.potential import Prediction
from ase_equivariant.training.dataset import Batch
from ase_equivariant.training.finetune_config import ReplayWeights
from ase_equivariant.training.fit_config import EnergyTermConfig, LossConfig, TermConfig
from ase_equivariant.training.readers import DataError


@dataclass(frozen=True)
class Errors:
    """Prediction minus label of one quantity, zero where there is no label, and how many labels there are."""

    values: Tensor
    count: Tensor


def compute_errors(prediction: Prediction, batch: Batch) -> dict[str, Errors]:
    """Errors of every predicted quantity: energy (S,) eV, energy_per_atom (S,) eV, forces (N, 3), stress (S, 3, 3)."""
    errors = {}
    energy = _masked(prediction["energy"] - batch.energy, batch.has_energy)
    errors["energy"] = energy
    errors["energy_per_atom"] = Errors(energy.values / batch.num_atoms, energy.count)
    if "forces" in prediction:
        errors["forces"] = _masked(prediction["forces"] - batch.forces, batch.has_forces)
    if "virial" in prediction:
        # Not prediction["stress"], which is undefined without a cell and would put NaN into every gradient.
        volume = torch.where(batch.has_stress, batch.graph.volume, 1.0).to(prediction["virial"])
        errors["stress"] = _masked(-prediction["virial"] / volume[:, None, None] - batch.stress, batch.has_stress)
    for name, label in batch.readouts.items():
        if name in prediction:
            found: Tensor = prediction[name]  # type: ignore[literal-required]
            errors[name] = _masked(found - shaped_label(name, label.values, found), label.mask)
    return errors


def shaped_label(name: str, values: Tensor, found: Tensor) -> Tensor:
    """Labels in the shape of the predictions."""
    check_shapes(name, values.shape, found.shape)
    return values.reshape(found.shape)


def check_shapes(name: str, labels: Sequence[int], predictions: Sequence[int]) -> None:
    """Refuse labels that do not go into the shape of the predictions, row by row."""
    if math.prod(labels) != math.prod(predictions) or labels[0] != predictions[0]:
        raise DataError(
            f"labels of {name} have shape {tuple(labels)}, predictions {tuple(predictions)}: "
            "correct the read-out's irreps, or whether it is of atoms"
        )


def _masked(difference: Tensor, mask: Tensor) -> Errors:
    per_label = difference[0].numel() if len(difference) else 1
    shaped = mask.reshape(mask.shape + (1,) * (difference.ndim - 1))
    return Errors(torch.where(shaped, difference, 0.0), mask.sum() * per_label)


class Loss:
    """``Σ_q mean(w_q · shape_q(error_q))`` over the quantities q with a positive weight w_q.

    Parameters
    ----------
    config : LossConfig
        Weights and shapes.
    replay : ReplayWeights, optional
        Weights of replayed structures, where they differ.
    readouts : mapping, optional
        Other read-outs of the model and their scales, by which errors are divided.
    """

    def __init__(
        self, config: LossConfig, replay: ReplayWeights | None = None, readouts: Mapping[str, float] | None = None
    ):
        self.config, self.scales = config, dict(readouts or {})
        terms: dict[str, TermConfig] = {name: getattr(config, name) for name in ("energy", "forces", "stress")}
        terms.update(config.readout_terms(list(self.scales)))
        own = replay.model_dump(exclude_none=True) if replay is not None else {}
        self.replay_weights: dict[str, float] = {k: w for k, w in own.items() if w != terms[k].weight}
        self.terms = {k: term for k, term in terms.items() if term.weight > 0 or self.replay_weights.get(k, 0) > 0}

    @property
    def needs_forces(self) -> bool:
        """Whether forces take part."""
        return "forces" in self.terms

    @property
    def needs_stress(self) -> bool:
        """Whether stress takes part."""
        return "stress" in self.terms

    def sums(self, errors: dict[str, Errors], batch: Batch) -> Tensor:
        """Weighted sum of the shape over labels and number of labels for each term, (terms, 2) float64."""
        rows = []
        for name, term in self.terms.items():
            per_atom = isinstance(term, EnergyTermConfig) and term.per_atom
            error = errors.get("energy_per_atom" if per_atom else name)
            if error is None:  # not labelled in this batch, or of structures that have none
                rows.append(torch.zeros(2, dtype=torch.float64, device=batch.energy.device))
                continue
            shaped = _shape(error.values / self.scales.get(name, 1.0), term)
            if name in self.replay_weights:
                replayed = batch.replayed[batch.graph.batch] if name == "forces" else batch.replayed
                weights = torch.where(replayed, self.replay_weights[name], term.weight).to(shaped.dtype)
                total = (shaped.flatten(1).sum(1) if shaped.ndim > 1 else shaped).mul(weights).sum(dtype=torch.float64)
            else:
                total = term.weight * shaped.sum(dtype=torch.float64)
            rows.append(torch.stack([total, error.count.double()]))
        return torch.stack(rows)

    def total(self, sums: Tensor) -> Tensor:
        """The loss from :meth:`sums`; a term without a single label adds nothing."""
        return (sums[:, 0] / sums[:, 1].clamp(min=1)).sum()


def _length(error: Tensor) -> Tensor:
    """Length of each error over its components, once for every component so that means are over labels."""
    if error.ndim == 1:
        return error.abs()
    components = error.flatten(1)
    # A masked error is exactly zero, where the root has no derivative.
    square = components.square().sum(1)
    length = torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
    return length * components.shape[1]


def _shape(error: Tensor, term: TermConfig) -> Tensor:
    if term.kind == "mse":
        return error.square()
    if term.kind == "mae":
        return error.abs()
    if term.kind == "norm":
        return _length(error)
    return huber_loss(error, torch.zeros_like(error), reduction="none", delta=term.delta)


QUANTITIES = ("energy", "energy_per_atom", "forces", "stress")
# For people: meV, meV/atom, meV/Å, meV/Å³.
UNITS = {"energy": "meV", "energy_per_atom": "meV/atom", "forces": "meV/Å", "stress": "meV/Å³"}


class ErrorSums:
    """Running sums of |error|, error² and counts, as one tensor that processes can add up; with other read-outs."""

    def __init__(self, device: torch.device | str = "cpu", readouts: Iterable[str] = ()):
        self.names = (*QUANTITIES, *readouts)
        self.values = torch.zeros(len(self.names), 3, dtype=torch.float64, device=device)

    def add(self, errors: dict[str, Errors]) -> None:
        """Take in one batch."""
        for row, name in zip(self.values, self.names, strict=True):
            if name in errors:
                error = errors[name].values.detach().double()
                row += torch.stack([error.abs().sum(), error.square().sum(), errors[name].count.double()])

    def metrics(self) -> dict[str, float]:
        """MAE and RMSE of each quantity with labels, in meV and the like: a thousandth of the unit."""
        result = {}
        for (absolute, square, count), name in zip(self.values.tolist(), self.names, strict=True):
            if count > 0:
                result[f"{name}_mae"] = 1000 * absolute / count
                result[f"{name}_rmse"] = 1000 * math.sqrt(square / count)
        return result
