"""Networks from edge vectors to equivariant atom features; ``ARCHITECTURES`` is the table of them all."""

from ase_equivariant.architectures.nequip import NequIP, NequIPConfig

ARCHITECTURES = {NequIPConfig: NequIP}

__all__ = ["ARCHITECTURES", "NequIP", "NequIPConfig"]
