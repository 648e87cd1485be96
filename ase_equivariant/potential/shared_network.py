"""Compiled networks by what is in them: the copies of a model have one between them.

Tables of a large network take hundreds of megabytes and a second to make, and a band of images, or an ensemble of
walkers, has a calculator for each.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

import torch

from ase_equivariant.potential.content_hash import content_hash
from ase_equivariant.potential.freeze import NetworkBuilder
from ase_equivariant.potential.potential import Potential

_in_use: WeakValueDictionary[tuple[str, torch.dtype, int], NetworkBuilder] = WeakValueDictionary()


def shared_network(potential: Potential, dtype: torch.dtype, level: int) -> NetworkBuilder:
    """The network of these weights, which nobody changes; made if there is none in use.

    Raises
    ------
    NotFreezableError
        If there is no compiled code for it.
    """
    key = content_hash(potential), dtype, level
    network = _in_use.get(key)
    if network is None:
        network = _in_use[key] = NetworkBuilder(potential, dtype, level)
    return network
