"""How a run goes down: optimizer, learning rate, loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ase_equivariant.config import Config
from ase_equivariant.training.numbers import Count, NonNegative, Positive


class OptimizerConfig(Config):
    """The optimizer.

    Attributes
    ----------
    name : {"adam", "adamw", "muon"}
        "muon" orthogonalizes the steps of weight matrices and gives the rest to AdamW.
    lr : float
        Learning rate at full height of the schedule. Muon's steps are scaled to the size of
        Adam's, so that one value serves both.
    weight_decay : float
        Decoupled from the gradient for "adamw" and "muon".
    betas : tuple of float
        Adam's decay rates.
    momentum : float
        Muon's, Nesterov.
    amsgrad : bool
        For "adam" and "adamw".
    gradient_clip : float or None
        Largest norm of the whole gradient.
    """

    name: Literal["adam", "adamw", "muon"] = "adamw"
    lr: Positive = 0.005
    weight_decay: NonNegative = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    amsgrad: bool = False
    gradient_clip: Positive | None = 10.0


class ScheduleConfig(Config):
    """The learning rate over the run.

    Attributes
    ----------
    name : {"constant", "cosine", "linear", "plateau"}
        Shape after the warm-up.
    warmup_epochs : float
        Linear rise from zero, before and under any shape.
    final_factor : float
        Where "cosine" and "linear" end and what "plateau" does not go below, in units of ``lr``.
    epochs : int or None
        Length of "cosine" and "linear"; default ``run.max_epochs``.
    plateau_factor : float
        "plateau" multiplies by it at the first validation that is as many epochs as follows without a better loss.
    plateau_patience : int
        Epochs.
    """

    name: Literal["constant", "cosine", "linear", "plateau"] = "cosine"
    warmup_epochs: NonNegative = 1.0
    final_factor: Annotated[float, Field(ge=0, le=1)] = 0.01
    epochs: Count | None = None
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.8
    plateau_patience: Count = 50


class TermConfig(Config):
    """One term of the loss: a weight and a shape.

    Attributes
    ----------
    weight : float
        Zero leaves the term out.
    kind : {"mse", "huber", "mae", "norm"}
        Huber is quadratic below ``delta`` and linear above. "norm" is the length of each
        error vector (for forces, the distance |ΔF_i|; for a scalar, its absolute value): it
        minds frames with large errors less than "mse", and does not depend on axes as "mae" does.
    delta : float
        In eV/atom, eV/Å or eV/Å³.
    """

    weight: NonNegative = 1.0
    kind: Literal["mse", "huber", "mae", "norm"] = "mse"
    delta: Positive = 0.01


class EnergyTermConfig(TermConfig):
    """The energy's term.

    Attributes
    ----------
    per_atom : bool
        Whether its error is divided by the number of atoms.
    """

    per_atom: bool = True


class LossConfig(Config):
    """Sum of one term for each labelled read-out.

    Attributes
    ----------
    energy, forces, stress : TermConfig
        Terms of the energy and its derivatives.
    readouts : dict of TermConfig
        Those of the model's other read-outs by name, whose errors are divided by the read-out's scale. What is not
        listed has weight 1, but "born_effective_charges", the dipole's derivatives, 0.
    """

    energy: EnergyTermConfig = EnergyTermConfig()
    forces: TermConfig = TermConfig()
    stress: TermConfig = TermConfig(weight=0.0)
    readouts: dict[str, TermConfig] = Field(default_factory=dict)

    def readout_terms(self, readouts: Sequence[str]) -> dict[str, TermConfig]:
        """Terms of the read-outs of a model, and of derivatives of its dipole."""
        names = [*readouts, *(["born_effective_charges"] if "dipole" in readouts else [])]
        unnamed = {name: TermConfig(weight=0.0 if name == "born_effective_charges" else 1.0) for name in names}
        return {name: self.readouts.get(name, term) for name, term in unnamed.items()}
