"""i-PI: path integrals and replicas, all beads in one call of the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

from ase_equivariant.engines.batch import BatchEvaluator
from ase_equivariant.engines.foreign import foreign
from ase_equivariant.potential.potential import Potential

Result = tuple[float, np.ndarray, np.ndarray, str]


class BeadPotential:
    """What i-PI's ``<ffdirect>`` and ``i-pi-driver-py`` call for a potential (``pes`` "custom").

    Parameters
    ----------
    template : str, Path or Atoms
        The structure: elements, their order and periodicity; i-PI sends positions and cells only.
    model : str, Path or Potential
        As for :class:`~ase_equivariant.EquivariantCalculator`.
    device, dtype, modal
        Likewise.

    Attributes
    ----------
    calls, structures : int
        How often i-PI called, and with how many structures in all.

    Raises
    ------
    ImportError
        If i-PI is not installed, at the first evaluation: its unit conversions are used.

    References
    ----------
    Litman et al., J. Chem. Phys. 161, 062504 (2024), doi:10.1063/5.0215869.
    """

    def __init__(
        self,
        template: str | Path | Atoms,
        model: str | Path | Potential,
        *,
        device: str = "cpu",
        dtype: str | None = None,
        modal: str | None = None,
    ):
        atoms = template if isinstance(template, Atoms) else read(template)
        if not isinstance(atoms, Atoms):
            raise ValueError(f"{template}: holds no single structure")
        self._template = atoms
        self._evaluate = BatchEvaluator(model, device=device, dtype=dtype, modal=modal)
        self.calls = self.structures = 0

    @cached_property
    def _units(self) -> Any:
        return foreign("ipi.utils.units", "ipi", "ipi")

    def __call__(
        self, cell: np.ndarray | Sequence[np.ndarray], positions: np.ndarray | Sequence[np.ndarray]
    ) -> Result | list[Result]:
        """Evaluate one structure, or a list of them in one call, in i-PI's atomic units.

        Parameters
        ----------
        cell : ndarray or list of ndarray
            (3, 3), lattice vectors in columns, Bohr.
        positions : ndarray or list of ndarray
            (N, 3), Bohr.

        Returns
        -------
        (energy, forces, virial, extras) or list of them
            Hartree, (N, 3) Hartree/Bohr, (3, 3) Hartree, and an empty text.
        """
        if isinstance(cell, np.ndarray):
            return self._batch([cell], [np.asarray(positions)])[0]
        return self._batch(cell, positions)

    compute = __call__

    def _batch(self, cells: Sequence[np.ndarray], positions: Sequence[np.ndarray] | np.ndarray) -> list[Result]:
        angstrom = self._units.unit_to_internal("length", "angstrom", 1.0)
        volt = self._units.unit_to_internal("energy", "electronvolt", 1.0)
        beads = []
        for cell, bead in zip(cells, positions, strict=True):
            atoms = self._template.copy()
            atoms.positions = np.reshape(bead, (-1, 3)) / angstrom
            if self._template.pbc.any():  # elsewhere i-PI's box means nothing
                atoms.cell = np.asarray(cell).T / angstrom
            beads.append(atoms)
        self.calls, self.structures = self.calls + 1, self.structures + len(beads)
        prediction = self._evaluate(beads)
        energies = prediction["energy"].tolist()
        forces = prediction["forces"].to("cpu").double().numpy().reshape(len(beads), -1, 3)
        virials = prediction["virial"].to("cpu").double().numpy()
        return [
            (energy * volt, force * (volt / angstrom), virial * volt, "")
            for energy, force, virial in zip(energies, forces, virials, strict=True)
        ]
