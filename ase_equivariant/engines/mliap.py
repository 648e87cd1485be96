"""LAMMPS' ML-IAP: a model for those who have built LAMMPS with Python, and Kokkos for GPUs, themselves.

``ase-equivariant lammps mliap MODEL`` writes the file that ``pair_style mliap unified FILE 0`` loads. A model of more
than one layer takes a LAMMPS with Kokkos, on one process, too, where images of atoms are ghosts: its data have the
exchange of features (LAMMPS of February 2025 or newer).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.potential.derivatives import edge_gradients
from ase_equivariant.potential.potential import Potential

# Numbers of an atom that LAMMPS' buffers of CPUs hold in any case: what borders send (position, tag, type, mask), and a
# force. ML-IAP does not ask for longer ones before it exchanges features, which were written beyond their end. Those of
# GPUs grow.
TO_GHOSTS, TO_OWNERS = 6, 3


class EquivariantMLIAP:
    """What ``pair_style mliap unified`` asks for energies and forces of pairs.

    LAMMPS knows this class by its attributes and methods; its own base class is not inherited, since importing it
    starts a Python interpreter of LAMMPS'.

    Parameters
    ----------
    potential : Potential
        Copied.
    dtype : torch.dtype
        Of the network.

    Attributes
    ----------
    element_types : list of str
        Chemical symbols, which ``pair_coeff * *`` maps types to.
    rcutfac : float
        Half the cutoff in Å, as LAMMPS adds two atoms' radii.
    ndescriptors, nparams : int
        Of no meaning here; LAMMPS asks for them.
    interface : object
        Set by LAMMPS.
    """

    def __init__(self, potential: Potential, dtype: torch.dtype = torch.float32):
        self.potential = deepcopy(potential).to(dtype=dtype).requires_grad_(False)
        self.element_types = list(potential.species)
        self.rcutfac = 0.5 * potential.cutoff
        self.ndescriptors = self.nparams = 1
        self.interface: Any = None

    def compute_descriptors(self, data: Any) -> None:
        """Nothing: features stay inside the network."""

    def compute_gradients(self, data: Any) -> None:
        """Nothing: forces are all that is asked for."""

    def compute_forces(self, data: Any) -> None:
        """Set ``data``'s energy, energies of local atoms, and gradients by the vectors of its pairs.

        Collective, since features of ghosts are exchanged: a process without atoms or pairs goes through all of it.

        Raises
        ------
        RuntimeError
            If the model has more than one layer and LAMMPS cannot exchange features.
        """
        pairs = _Pairs(data)
        self.potential.to(device=pairs.vectors.device)
        vectors = pairs.vectors.to(self.potential.dtype).requires_grad_(True)
        with torch.enable_grad():
            energies = self.potential.atomic_energies(pairs.species, pairs.edge_index, vectors, _Ghosts(data))
            gradients = edge_gradients(energies.sum(), vectors, create_graph=False)
        energies = energies.detach()
        data.energy = float(energies.sum())
        if data.nlocal:
            shown = getattr(data, "eatoms", None)  # without Kokkos it can only be written
            if shown is None:
                data.eatoms = energies.numpy()
            else:
                _view(shown)[: data.nlocal] = energies
        if data.npairs:
            pairs.hand_over(gradients)


class _Pairs:
    """LAMMPS' arrays as tensors, which share their memory where there are any: views of nothing raise."""

    def __init__(self, data: Any):
        self.data = data
        known = _view(data.rij) if data.npairs else _view(data.elems) if data.ntotal else torch.empty(0)
        empty = torch.empty(0, dtype=torch.int64, device=known.device)

        def integers(name: str, count: int) -> Tensor:
            return _view(getattr(data, name))[:count].long() if count else empty

        self.edge_index = torch.stack([integers("pair_i", data.npairs), integers("pair_j", data.npairs)])
        self.species = integers("elems", data.ntotal)
        self.vectors = _view(data.rij)[: data.npairs].double() if data.npairs else known.new_empty((0, 3)).double()

    def hand_over(self, gradients: Tensor) -> None:
        """dE/dr of every pair; forces of ghosts go home by LAMMPS' own communication."""
        if gradients.device.type == "cpu":
            self.data.update_pair_forces(gradients.double().contiguous().numpy())
        else:
            self.data.update_pair_forces_gpu(gradients.double().contiguous())


class _Ghosts:
    """Exchange of features through the data of ML-IAP, an :class:`~ase_equivariant.architectures.Exchange`."""

    def __init__(self, data: Any):
        self.data, self.num_local, self.num_all = data, int(data.nlocal), int(data.ntotal)

    def __call__(self, features: Tensor) -> Tensor:
        """Features of all atoms from those of local ones."""
        # Refused on all processes, with ghosts or without: one that went on would leave the others waiting.
        if not hasattr(self.data, "forward_exchange"):
            raise RuntimeError(
                "this LAMMPS cannot exchange features of ghosts, not even those of a cell's own images: build it with "
                "Kokkos (-sf kk -k on), version February 2025 or newer"
            )
        extended: Tensor = _Exchanged.apply(features, self)
        return extended

    def in_place(self, rows: NDArray[np.floating], gradients: bool) -> None:
        """Not for compiled code, whose rows LAMMPS cannot exchange here."""
        raise NotImplementedError("ML-IAP evaluates models eagerly")


class _Exchanged(torch.autograd.Function):
    """LAMMPS' forward exchange, owners to ghosts, whose transpose is its reverse exchange."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, ghosts: _Ghosts) -> Tensor:
        ctx.ghosts = ghosts
        rows = features.new_zeros(ghosts.num_all, features.shape[1])
        rows[: ghosts.num_local] = features
        return _in_slices(ghosts.data.forward_exchange, rows, TO_GHOSTS)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        home = _in_slices(ctx.ghosts.data.reverse_exchange, gradient.contiguous(), TO_OWNERS)
        return home[: ctx.ghosts.num_local], None


def _in_slices(exchange: Callable[[Tensor, Tensor, int], None], rows: Tensor, width: int) -> Tensor:
    """Rows (N, D) after LAMMPS' exchange; on CPUs of so many columns at a time as its buffers are sure to hold."""
    parts = rows.split(width, dim=1) if rows.device.type == "cpu" else (rows,)
    exchanged = []
    for part in parts:
        exchanged.append(torch.empty_like(part, memory_format=torch.contiguous_format))
        exchange(part.contiguous(), exchanged[-1], part.shape[1])
    return torch.cat(exchanged, dim=1) if len(exchanged) > 1 else exchanged[0]


def _view(array: Any) -> Tensor:
    """A tensor on the memory of an array of NumPy or CuPy, or of a tensor."""
    return torch.as_tensor(array, device="cuda" if hasattr(array, "__cuda_array_interface__") else None)


def write_mliap(path: str | Path, potential: Potential, dtype: torch.dtype = torch.float32) -> None:
    """Write a model for ``pair_style mliap unified PATH 0``.

    The file is a pickle, which is how LAMMPS loads it; it names classes of this package and holds tensors.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(EquivariantMLIAP(potential, dtype)))
