"""E(3)-equivariant neural network potentials for ASE."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ase_equivariant.lazy import exports

if TYPE_CHECKING:
    from ase_equivariant.calculator import EquivariantCalculator
    from ase_equivariant.graph.graph import AtomicGraph
    from ase_equivariant.io.model_file import ModelCard, load_model, save_model
    from ase_equivariant.potential.potential import Potential, PotentialConfig, Prediction

try:
    __version__ = version("ase-equivariant")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "AtomicGraph",
    "EquivariantCalculator",
    "ModelCard",
    "Potential",
    "PotentialConfig",
    "Prediction",
    "load_model",
    "save_model",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "AtomicGraph": "ase_equivariant.graph.graph",
        "EquivariantCalculator": "ase_equivariant.calculator",
        "ModelCard": "ase_equivariant.io.model_file",
        "Potential": "ase_equivariant.potential.potential",
        "PotentialConfig": "ase_equivariant.potential.potential",
        "Prediction": "ase_equivariant.potential.potential",
        "load_model": "ase_equivariant.io.model_file",
        "save_model": "ase_equivariant.io.model_file",
    },
)
