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
    compiled : FrozenPotential or None
        None before the first use, where it does not apply, and after it was found wrong.
    reason : str or None
        Why there is none.
    """

    def __init__(self, potential: Potential, dtype: torch.dtype):
        self._exact, self._dtype = potential, dtype
        self._verified: set[frozenset[int]] = set()
        self.compiled: FrozenPotential | None = None
        self.reason: str | None = None
        self._compile()

    def _compile(self) -> None:
        try:
            self.compiled = FrozenPotential(self._exact, self._dtype)
        except NotFreezableError as error:
            self.reason = str(error)

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled form, which a copy makes for itself, maybe on another machine."""
        return {**self.__dict__, "compiled": None, "_verified": set()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compile again unless that was given up."""
        self.__dict__.update(state)
        if self.reason is None:
            self._compile()

    def for_graph(self, graph: AtomicGraph) -> FrozenPotential | None:
        """The compiled form, verified for the graph's elements, or None."""
        if self.compiled is None:
            return None
        elements = frozenset(graph.atomic_numbers.unique().tolist())
        if elements not in self._verified and graph.num_atoms:
            self.check(graph, max_atoms=128)
            self._verified.add(elements)
        return self.compiled

    def check(self, graph: AtomicGraph, max_atoms: int | None) -> Verification:
        """Compare on a float64 graph; a deviation beyond the bounds ends the use of the compiled form, loudly."""
        assert self.compiled is not None
        result = verify(self.compiled, self._exact, graph, max_atoms)
        if not result.passed:
            self.compiled, self.reason = None, f"it deviated from the eager model {result}"
            warnings.warn(
                f"the fast evaluation of this model is wrong here and is not used any more: {result}. Results now come "
                "from the slower eager evaluation; please report the model and the structure",
                RuntimeWarning,
                stacklevel=2,
            )
        return result
