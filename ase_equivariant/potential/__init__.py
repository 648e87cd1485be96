"""From a graph to energy, forces, virial and stress."""

from ase_equivariant.potential.potential import Potential, PotentialConfig, Prediction

__all__ = ["Potential", "PotentialConfig", "Prediction"]
