"""Structures that are in two parts of the data."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
from ase import Atoms

from ase_equivariant.training.splits import Splits
from ase_equivariant.training.streaming import OnDemand

_DECIMALS = 4  # files keep so many, or more


def warn_of_overlap(splits: Splits) -> None:
    """Warn if structures that choose or test are trained on, or that test choose; streamed ones are not read.

    Only copies in the same place and order are seen; ``ase-equivariant data check`` finds others and takes longer.
    """
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    if any(isinstance(part, OnDemand) for part in parts.values()):
        return
    keys = {name: [_key(frame.atoms) for frame in frames] for name, frames in parts.items()}
    earlier: set[bytes] = set()
    for name, own in keys.items():
        found = [k for k, key in enumerate(own) if key in earlier]
        if found:
            first = ", ".join(map(str, found[:5])) + (", …" if len(found) > 5 else "")
            others = "training" if name == "validation" else "training or validation"
            warnings.warn(
                f"{len(found)} of {len(own)} {name} structures are {others} structures, too (counted from 0: {first}), "
                "so errors of them say little of others: take them out of one part",
                UserWarning,
                stacklevel=2,
            )
        earlier.update(own)


def _key(atoms: Atoms) -> bytes:
    """The same for the same structure in the same place; short, as there is one for every structure."""
    lengths = (atoms.positions, atoms.cell.array)
    rounded = b"".join((np.round(values, _DECIMALS) + 0.0).tobytes() for values in lengths)  # -0.0 is 0.0
    return hashlib.sha256(rounded + atoms.numbers.tobytes() + atoms.pbc.tobytes()).digest()
