"""When dynamics has left the physical."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from ase import Atoms

from ase_equivariant.recipes.ensembles import MDSettings
from ase_equivariant.recipes.temperature import temperature_of


class SimulationError(RuntimeError):
    """The dynamics left the physical: NaN, or forces or a temperature beyond the limits."""


@dataclass(frozen=True)
class Limits:
    """Above which dynamics is no longer believed.

    Attributes
    ----------
    max_force : float
        eV/Å.
    max_temperature_K : float
    """

    max_force: float
    max_temperature_K: float

    @classmethod
    def of(cls, settings: MDSettings, max_force: float = 100.0, max_temperature_K: float | None = None) -> Self:
        """Limits of a run: 100 eV/Å, and ten times its temperature, at least 10 000 K, where nothing is said.

        Raises
        ------
        ValueError
            If one is not above zero.
        """
        most = max(10 * settings.temperature_K, 1e4) if max_temperature_K is None else max_temperature_K
        if not (max_force > 0 and most > 0):
            raise ValueError(f"max_force = {max_force} eV/Å, max_temperature_K = {most}: limits are above 0")
        return cls(max_force, most)

    def check(self, atoms: Atoms, dof: int) -> None:
        """Evaluate atoms whose momenta have ``dof`` degrees of freedom.

        Raises
        ------
        SimulationError
            Names what is beyond its limit, and the value.
        """
        lengths = np.linalg.norm(atoms.get_forces(), axis=1)
        if not (np.isfinite(atoms.get_potential_energy()) and np.isfinite(lengths).all()):
            raise SimulationError("energy or forces are not finite")
        worst = int(lengths.argmax()) if len(lengths) else 0
        if len(lengths) and lengths[worst] > self.max_force:
            raise SimulationError(
                f"the force on atom {worst} ({atoms.symbols[worst]}) is {lengths[worst]:.4g} eV/Å, "
                f"above the limit of {self.max_force:g}"
            )
        temperature = temperature_of(atoms, dof)
        if not temperature <= self.max_temperature_K:
            raise SimulationError(
                f"the temperature is {temperature:.4g} K, above the limit of {self.max_temperature_K:g}"
            )
