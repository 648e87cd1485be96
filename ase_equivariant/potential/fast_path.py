"""When the compiled evaluation may be used: where it applies, and as long as it agrees."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.potential.frozen import FrozenPotential, NotFreezableError
from ase_equivariant.potential.potential import Potential
from ase_equivariant.potential.verification import Verification, verify


class FastPath:
    """The compiled form of a potential, checked against it whenever new elements come together.

    Parameters
    ----------
    potential : Potential
        In float64, with fixed weights.
    dtype : torch.dtype
        Of the compiled form.

    Attributes
    ----------
    reason : str or None
        Why there is no compiled form, where it does not apply or was found wrong.
    """

    def __init__(self, potential: Potential, dtype: torch.dtype):
        self._exact, self._dtype = potential, dtype
        self._verified: set[frozenset[int]] = set()
        self._compiled: FrozenPotential | None = None
        self.reason: str | None = None

    @classmethod
    def wanted(cls, fast: bool | None, potential: Potential, dtype: torch.dtype) -> FastPath | None:
        """What a user's ``fast`` asks for: False for none, True for one that must be possible.

        Raises
        ------
        ValueError
            If ``fast`` is true and there is no compiled form.
        """
        if fast is False:
            return None
        path = cls(potential, dtype)
        if fast and path.compiled is None:
            raise ValueError(f"fast=True is not possible, {path.reason}: leave it out to evaluate eagerly")
        return path

    @property
    def compiled(self) -> FrozenPotential | None:
        """The compiled form, made when first asked for; None if there is none."""
        if self._compiled is None and self.reason is None:
            try:
                self._compiled = FrozenPotential(self._exact, self._dtype)
            except NotFreezableError as error:
                self.reason = str(error)
        return self._compiled

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled form, which a copy makes for itself, maybe on another machine."""
        return {**self.__dict__, "_compiled": None, "_verified": set()}

    def for_graph(self, graph: AtomicGraph) -> FrozenPotential | None:
        """The compiled form, verified for the graph's elements, or None."""
        compiled = self.compiled
        if compiled is None:
            return None
        elements = frozenset(graph.atomic_numbers.unique().tolist())
        if elements not in self._verified and graph.num_atoms:
            self.check(graph, max_atoms=128)
            if graph.num_edges:  # atoms by themselves say nothing of how the elements go together
                self._verified.add(elements)
        return self.compiled

    def check(self, graph: AtomicGraph, max_atoms: int | None) -> Verification:
        """Compare on a float64 graph; a deviation beyond the bounds ends the use of the compiled form, loudly."""
        assert self.compiled is not None
        result = verify(self.compiled, self._exact, graph, max_atoms)
        if not result.passed:
            self._compiled, self.reason = None, f"it deviated from the eager model {result}"
            warnings.warn(
                f"the fast evaluation of this model is wrong here and is not used any more: {result}. Results now come "
                "from the slower eager evaluation; please report the model and the structure",
                RuntimeWarning,
                stacklevel=2,
            )
        return result
