"""Irreps of O(3), how features of them lie in memory, and how they couple; names, basis and order are e3nn's.

e3nn itself is not needed: importing it takes as long as importing torch. The tests compare with it.
"""

from ase_equivariant.irreps.coupling import clebsch_gordan
from ase_equivariant.irreps.irreps import Irrep, Irreps, merge
from ase_equivariant.irreps.layout import Block, blocks, from_e3nn_layout, scalar_slice, to_e3nn_layout
from ase_equivariant.irreps.rotation import random_rotation, wigner_d

__all__ = [
    "Block",
    "Irrep",
    "Irreps",
    "blocks",
    "clebsch_gordan",
    "from_e3nn_layout",
    "merge",
    "random_rotation",
    "scalar_slice",
    "to_e3nn_layout",
    "wigner_d",
]
