"""The part of a training configuration that starts from a trained model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ase_equivariant.config import Config
from ase_equivariant.training.labels import Files, LabelConfig


class ReplayConfig(LabelConfig):
    """Structures of what the model knew before, mixed into every batch so that it is not forgotten.

    Attributes
    ----------
    files : str or tuple of str
        Structures.
    labelled_by : {"files", "init"}
        Their own labels, or those that the initial model gives: for when its training data are not at hand.
    fraction : float
        Of each batch.
    num_structures : int or None
        At most so many, the first of them in the order of the files.
    """

    files: Files
    labelled_by: Literal["files", "init"] = "files"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    num_structures: Annotated[int, Field(strict=True, ge=1)] | None = None

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
    replay : ReplayConfig or None
        See there.
    """

    modal: str | None = None
    references: Literal["refitted", "frozen"] = "refitted"
    freeze: tuple[str, ...] = ()
    replay: ReplayConfig | None = None
