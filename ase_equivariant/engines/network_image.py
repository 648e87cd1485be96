"""A compiled network as one file, for programs that evaluate it without Python.

The file is the memory of :class:`~ase_equivariant.potential.freeze.NetworkBuilder`, structs of ``csrc/network.h`` and
the arrays they point to, with a list of the places that hold addresses. ``lammps_plugin/network_image.h`` reads it.
"""

from __future__ import annotations

import bisect
import ctypes
import struct
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.io.golden import golden_structure
from ase_equivariant.kernels.cpu import library
from ase_equivariant.potential.freeze import NetworkBuilder, NotFreezableError
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.potential.potential import Potential
from ase_equivariant.potential.repulsion import COULOMB, COULOMB_IN_LAMMPS, SCREENING_LENGTH, ZBL, EnvelopedZBL
from ase_equivariant.potential.verification import verify

MAGIC = b"EQVIMG03"
# interface of the kernels, bytes of a number, instruction set, species, bytes, relocations, place of the root; cutoff;
# kind of repulsion, bytes that fill up; inner, outer and exponent of it
_HEADER = struct.Struct("<8sIIIIQQQdI4xddd")
_ALIGNMENT = 64


def write_network_image(
    path: str | Path, potential: Potential, dtype: torch.dtype = torch.float32, *, level: int | None = None
) -> None:
    """Write what ``pair_style equivariant`` reads.

    Parameters
    ----------
    path : str or Path
        File to write, whole or not at all.
    potential : Potential
        On the CPU.
    dtype : torch.dtype
        float32 or float64, of the network.
    level : int, optional
        Instruction set of the machine that will run it: 0 baseline, 1 AVX2, 2 AVX-512; default this machine's best.

    Raises
    ------
    NotFreezableError
        If there is no compiled form of the potential, or it deviates from the eager one.
    """
    exact = deepcopy(potential).to(dtype=torch.float64)
    frozen = FrozenPotential(exact, dtype, level=level)
    checked = verify(
        frozen, exact, atoms_to_graph(golden_structure(exact.species), exact.cutoff, dtype=torch.float64), None
    )
    if not checked.passed:
        raise NotFreezableError(f"the compiled form of this model deviates from the eager one {checked}")
    blob, places, root = _image(frozen._builder)
    repulsion, pairs = describe_repulsion(exact.repulsion, len(exact.species))
    lib = library()
    assert lib is not None  # there is a frozen potential
    header = _HEADER.pack(
        MAGIC,
        lib.conv_interface(),
        frozen._builder.real.itemsize,
        frozen.level,
        len(exact.species),
        len(blob),
        len(places),
        root,
        exact.cutoff,
        *repulsion,
    )
    species = np.array(exact.species, dtype="S8").tobytes()
    with atomic_path(path) as temporary:
        start = len(header) + len(species) + len(pairs) + 8 * len(places)
        gap = bytes(-start % _ALIGNMENT)
        temporary.write_bytes(header + species + pairs + np.array(places, dtype="<u8").tobytes() + gap + blob)


def describe_repulsion(
    repulsion: ZBL | EnvelopedZBL | None, num_species: int
) -> tuple[tuple[int, float, float, float], bytes]:
    """What the header says of a repulsion, and five numbers for each centre and neighbour, for ``repulsion.h``.

    Charges and screening of the bare repulsion, then coefficients A, B and C of the switch, or 1/cutoff.
    """
    if repulsion is None:
        return (0, 0.0, 0.0, 0.0), b""
    z = repulsion.charges.double()
    coulomb = COULOMB if isinstance(repulsion, ZBL) else COULOMB_IN_LAMMPS
    bare = [coulomb * torch.outer(z, z), (z.pow(0.23) + z.pow(0.23).unsqueeze(1)) / SCREENING_LENGTH]
    if isinstance(repulsion, ZBL):
        table = torch.stack([*bare, repulsion.cubic, repulsion.quartic, repulsion.constant], dim=2)
        return (1, repulsion.inner, repulsion.outer, 0.0), table.double().numpy().astype("<f8").tobytes()
    nothing = torch.zeros(num_species, num_species, dtype=torch.float64)
    table = torch.stack([*bare, repulsion.inverse_cutoffs, nothing, nothing], dim=2)
    return (2, 0.0, repulsion.outer, repulsion.envelope.p), table.double().numpy().astype("<f8").tobytes()


def _image(builder: NetworkBuilder) -> tuple[bytearray, list[int], int]:
    """All memory of a network side by side, the places of addresses in it, each now relative, and the network's."""
    pieces = [builder.network, *builder.kept]
    starts: dict[int, tuple[int, int]] = {}  # address: (size, place in the image)
    blob = bytearray()
    for piece in pieces:
        address, size = _memory(piece)
        if not size or address in starts:
            continue
        blob += bytes(-len(blob) % _ALIGNMENT)
        starts[address] = (size, len(blob))
        blob += ctypes.string_at(address, size)
    addresses = sorted(starts)

    def place_of(address: int) -> int | None:
        k = bisect.bisect_right(addresses, address) - 1
        if k < 0 or address >= addresses[k] + starts[addresses[k]][0]:
            return None  # an array of no elements: nobody reads it
        return starts[addresses[k]][1] + address - addresses[k]

    places = []
    for piece in pieces:
        address, size = _memory(piece)
        for offset in _pointers(piece) if size else ():
            here = starts[address][1] + offset
            (target,) = struct.unpack_from("<Q", blob, here)
            to = place_of(target) if target else None
            struct.pack_into("<Q", blob, here, to or 0)
            if to is not None:
                places.append(here)
    return blob, places, starts[ctypes.addressof(builder.network)][1]


def _memory(piece: Any) -> tuple[int, int]:
    """Address and bytes of an array or a struct."""
    if isinstance(piece, np.ndarray):
        assert piece.flags.c_contiguous
        return piece.ctypes.data, piece.nbytes
    return ctypes.addressof(piece), ctypes.sizeof(piece)


def _pointers(piece: Any) -> Iterator[int]:
    """Offsets of the addresses in a struct or an array of structs."""
    if isinstance(piece, ctypes.Array):
        for k in range(len(piece)):
            yield from (k * ctypes.sizeof(piece._type_) + offset for offset in _fields(piece._type_))
    elif isinstance(piece, ctypes.Structure):
        yield from _fields(type(piece))


def _fields(kind: type[ctypes.Structure]) -> Iterator[int]:
    for name, field_type, *_ in kind._fields_:
        offset = getattr(kind, name).offset
        if field_type is ctypes.c_void_p or issubclass(field_type, ctypes._Pointer):
            yield offset
        elif issubclass(field_type, ctypes.Structure):
            yield from (offset + inner for inner in _fields(field_type))
