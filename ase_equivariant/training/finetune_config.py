"""The part of a training configuration that starts from a trained model."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ase_equivariant.config import Config
from ase_equivariant.training.labels import Files, LabelConfig

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ReplayWeights(Config):
    """Weights of the loss's terms for replayed structures; None is that of the run's own ``loss``.

    Zero for ``energy`` leaves forces, for where levels of theory differ by more than energies of elements.

    Attributes
    ----------
    energy, forces, stress : float or None
        In place of ``loss``'s.
    """

    energy: Weight | None = None
    forces: Weight | None = None
    stress: Weight | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.energy == self.forces == self.stress == 0:
            raise ValueError("every weight of the replayed structures is zero: leave [finetune.replay] out instead")
        return self


class ReplayConfig(LabelConfig):
    """Structures of what the model knew before, mixed into every batch so that it is not forgotten.

    Attributes
    ----------
    files : str or tuple of str
        Structures.
    labelled_by : {"files", "init"}
        Their own labels, or those that the initial model gives: for when its training data are not at hand.
    fraction : float
        Of each batch, rounded to whole structures, at least one; the last batch of an epoch has as many.
    num_structures : int or None
        At most so many, the first of them in the order of the files.
    weights : ReplayWeights
        In the loss.
    """

    files: Files
    labelled_by: Literal["files", "init"] = "files"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    num_structures: Annotated[int, Field(strict=True, ge=1)] | None = None
    weights: ReplayWeights = ReplayWeights()

    def label_config(self) -> LabelConfig:
        """The part that says how files are read."""
        return LabelConfig(**{name: getattr(self, name) for name in LabelConfig.model_fields})


class FinetuneConfig(Config):
    """How ``init`` is taken over.

    Attributes
    ----------
    modal : str or None
        Level of theory of a multi-fidelity model.
    references : {"refitted", "frozen"}
        Whether each element's reference energy is moved by a least-squares fit of what the initial model is
        off on the training structures, or kept.
    freeze : tuple of str
        What is not trained: "embedding", "basis" (wave numbers), "radial" (all radial networks, of NequIP),
        "edge_embedding" (of GVP), "readout", "layers.0" … or all "layers".
    elements : {"all", "trained"}
        Which of the initial model's elements the model that is written knows: all, or those of the structures that it
        was trained on (replayed ones too), so that it refuses others. Training itself is the same.
    replay : ReplayConfig or None
        See there.
    """

    modal: str | None = None
    references: Literal["refitted", "frozen"] = "refitted"
    freeze: tuple[str, ...] = ()
    elements: Literal["all", "trained"] = "all"
    replay: ReplayConfig | None = None
