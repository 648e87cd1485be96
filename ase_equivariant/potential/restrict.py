"""The same potential for fewer elements."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch

from ase_equivariant.architectures.base import ArchitectureConfig
from ase_equivariant.nn.linear import SpeciesLinear
from ase_equivariant.potential.potential import Potential


def restrict_species(potential: Potential, species: Collection[str]) -> Potential:
    """A potential that gives the same for structures of these elements, and knows no others.

    Parameters
    ----------
    potential : Potential
        Not changed.
    species : collection of str
        Chemical symbols, in any order; theirs stays that of ``potential``.

    Raises
    ------
    ValueError
        If ``potential`` does not know one of them, or none is given.
    """
    known, architecture = potential.species, potential.config.architecture
    if unknown := [symbol for symbol in species if symbol not in known]:
        raise ValueError(f"the model does not know {', '.join(unknown)}: it was made for {', '.join(known)}")
    if not species:
        raise ValueError("no elements are left: name one that the model knows")
    kept = [index for index, symbol in enumerate(known) if symbol in species]
    fewer = _restrict_config(architecture, tuple(known[index] for index in kept))
    with torch.random.fork_rng(devices=[]):  # building draws random weights
        made = Potential(potential.config.model_copy(update={"architecture": fewer}))
    own, state, rows = made.state_dict(), {}, torch.tensor(kept, device=potential.device)
    for name, values in potential.state_dict().items():
        for dim, (before, after) in enumerate(zip(values.shape, own[name].shape, strict=True)):
            if before != after:
                values = values.index_select(dim, rows)
        state[name] = values
    made = made.to(potential.device, potential.dtype)
    made.load_state_dict(state)
    with torch.no_grad():  # matrices of species are divided by the root of how many there are
        for module in made.modules():
            if isinstance(module, SpeciesLinear):
                for weights in module.parameters():
                    weights.mul_(math.sqrt(len(kept) / len(known)))
    return made


def _restrict_config(config: ArchitectureConfig, species: tuple[str, ...]) -> ArchitectureConfig:
    values = config.model_dump() | {"species": species}
    if values.get("neighbors_per_species") is not None:
        values["neighbors_per_species"] = {s: n for s, n in values["neighbors_per_species"].items() if s in species}
    if values.get("pair_cutoffs"):
        values["pair_cutoffs"] = {
            centre: {s: cutoff for s, cutoff in row.items() if s in species}
            for centre, row in values["pair_cutoffs"].items()
            if centre in species
        }
    return type(config).model_validate(values)
