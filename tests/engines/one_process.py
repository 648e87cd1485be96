"""A structure on one process, without MPI."""

from __future__ import annotations

import numpy as np


class OneProcess:
    """MPI's communicator of one process."""

    size, rank = 1, 0

    def Allreduce(self, sent, received):
        received[:] = sent

    def Alltoall(self, sent, received):
        received[:] = sent

    def Alltoallv(self, sent, received):
        assert sent[1].sum() == received[1].sum() == sent[0].size
        received[0][...] = sent[0]


def images(atoms, reach):
    """Positions of the atoms and of their images within ``reach``, and which atom each of them is of."""
    positions, owners = [atoms.positions], [np.arange(len(atoms))]
    repeats = np.ceil(reach / atoms.cell.lengths()).astype(int) + 1
    for shift in np.ndindex(*(2 * repeats + 1)):
        if any(shift - repeats):
            positions.append(atoms.positions + (shift - repeats) @ atoms.cell.array)
            owners.append(np.arange(len(atoms)))
    return np.concatenate(positions), np.concatenate(owners)
