"""Many structures in one call of the model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import torch
from ase import Atoms

from ase_equivariant.calculator import EquivariantCalculator
from ase_equivariant.graph.convert import dipole_of_isotopes
from ase_equivariant.graph.neighbors import VerletList
from ase_equivariant.potential.potential import Potential, Prediction, UnknownElementError


class BatchEvaluator:
    """Energies, forces and virials of several structures from one batched graph.

    A neighbour list is kept for every place in the batch: where the same replica comes in the same place again it is
    reused, where another structure comes it is built anew; either way it is exact.

    Parameters
    ----------
    model : str, Path or Potential
        As for :class:`~ase_equivariant.EquivariantCalculator`.
    device, dtype, skin, fast, modal
        Likewise.

    Attributes
    ----------
    calculator : EquivariantCalculator
        Holds the model, its card and its compiled form.
    """

    def __init__(
        self,
        model: str | Path | Potential,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        skin: float = 1.0,
        fast: bool | None = None,
        modal: str | None = None,
    ):
        self.calculator = EquivariantCalculator(model, device=device, dtype=dtype, skin=skin, fast=fast, modal=modal)
        self._skin = skin
        self._neighbors: list[VerletList] = []

    @property
    def device(self) -> torch.device:
        """Where the network is evaluated."""
        return self.calculator.potential.device

    def __call__(
        self, structures: Sequence[Atoms], *, stress: bool = True, properties: Collection[str] = ()
    ) -> Prediction:
        """Predict S structures with N atoms together.

        Parameters
        ----------
        structures : sequence of ase.Atoms
            At least one; positions and cells in Å.
        stress : bool
            Whether to compute virials, and stresses of those that have a cell.
        properties : collection of str
            What else to compute of what the model predicts, such as "dipole" or "born_effective_charges".

        Returns
        -------
        Prediction
            Units and shapes as there, atoms one structure after the other. Dipoles of ions are about the centre of the
            atoms' own masses, as the calculator's; those of periodic structures, which have none, are NaN. Read-outs
            that were not asked for are absent.

        Raises
        ------
        TypeError
            If it is one structure, not a sequence of them.
        ValueError
            If there is none, or the model does not predict a property; and what
            :class:`~ase_equivariant.EquivariantCalculator` refuses, with the place of the structure in the batch.
        RuntimeError
            If energies or forces are not finite.
        """
        if isinstance(structures, Atoms):
            raise TypeError("a batch is a sequence of structures: give [atoms] for one Atoms object")
        if not len(structures):
            raise ValueError("there is no structure in the batch: give at least one")
        readouts = self.calculator.readouts
        if unknown := [name for name in properties if name not in readouts]:
            raise ValueError(
                f"properties: this model predicts no {unknown[0]!r} beside energy, forces and stress; there is "
                f"{', '.join(sorted(readouts)) or 'nothing else'}"
            )
        while len(self._neighbors) < len(structures):
            self._neighbors.append(VerletList(self.calculator.cutoff, self._skin))
        graphs = []
        for place, atoms in enumerate(structures):
            with _naming(place, len(structures)):
                graphs.append(self.calculator.graph(atoms, self._neighbors[place]))
        try:
            prediction = self.calculator.predict(graphs, stress=stress, properties=properties)
        except UnknownElementError:  # of the batch as a whole: which structure has it is looked for only here
            for place, graph in enumerate(graphs):
                with _naming(place, len(structures)):
                    self.calculator.potential.species_indices(graph.atomic_numbers)
            raise
        _refuse_infinite(prediction, structures)
        # The eager model computes all of them at once, compiled code none.
        prediction = cast(Prediction, {k: v for k, v in prediction.items() if k not in readouts or k in properties})
        if "dipole" in prediction:
            moved = np.stack([dipole_of_isotopes(atoms) for atoms in structures])
            prediction["dipole"] = prediction["dipole"] + torch.from_numpy(moved).to(prediction["dipole"].device)
        return prediction


@contextmanager
def _naming(place: int, count: int) -> Iterator[None]:
    """Put the place of the structure in front of errors that are about it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"structure {place} of {count}: {error}") from None


def _refuse_infinite(prediction: Prediction, structures: Sequence[Atoms]) -> None:
    finite = torch.isfinite(prediction["energy"]).cpu()
    atomic = torch.isfinite(prediction["forces"]).all(dim=1).cpu()
    for place, forces in enumerate(atomic.split([len(atoms) for atoms in structures])):
        if not (bool(finite[place]) and bool(forces.all())):
            raise RuntimeError(
                f"the model gives energy or forces that are not finite for structure {place} of {len(structures)} "
                f"({structures[place].symbols}): start from a more sensible one, or with a shorter time step"
            )
