"""Networks from edge vectors to equivariant atom features; ``ARCHITECTURES`` is the table of them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from ase_equivariant.architectures.base import ArchitectureConfig, Exchange, Network
from ase_equivariant.architectures.gvp import GVPConfig, GVPNetwork
from ase_equivariant.architectures.nequip import NequIP, NequIPConfig
from ase_equivariant.irreps import Irrep

# Configuration of each network.
ARCHITECTURES: dict[type[ArchitectureConfig], Any] = {
    NequIPConfig: NequIP,
    GVPConfig: GVPNetwork,
}

if TYPE_CHECKING:
    AnyArchitecture = ArchitectureConfig
else:  # the configurations of the table, told apart by their names
    AnyArchitecture = Annotated[Union[tuple(ARCHITECTURES)], Field(discriminator="name")]  # noqa: UP007


def build_network(config: ArchitectureConfig, keep: Sequence[Irrep] = ()) -> Network:
    """The network of a configuration, with random weights; ``keep`` are irreps that read-outs take beside scalars."""
    network: Network = ARCHITECTURES[type(config)](config, keep)
    return network


__all__ = [
    "ARCHITECTURES",
    "AnyArchitecture",
    "ArchitectureConfig",
    "Exchange",
    "GVPConfig",
    "GVPNetwork",
    "NequIP",
    "NequIPConfig",
    "Network",
    "build_network",
]
