"""What every importer gives: a potential of ours and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from ase_equivariant.io.model_file import ModelCard
from ase_equivariant.potential.potential import Potential


class ForeignModelError(ValueError):
    """A foreign model that cannot be read or represented; the message says which and why."""


@dataclass(frozen=True)
class Converted:
    """A foreign model as one of ours.

    ``potential`` is in float64 and does not require gradients. ``modalities`` are the levels
    of theory a multi-fidelity model was trained at, of which the potential is one; empty for others.
    """

    potential: Potential
    card: ModelCard
    modalities: tuple[str, ...] = ()
