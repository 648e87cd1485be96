"""The compiled evaluation of a frozen network: its description in C's structs, and the call.

``csrc/network.h`` says what the fields mean; every class here mirrors the struct of its name.
Who fills them (:mod:`ase_equivariant.potential.frozen`) keeps the arrays alive.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_equivariant.kernels.cpu import library

MAX_LAYERS = 64
MAX_HIDDEN = 15
_BAD_EDGE, _UNSORTED, _OUT_OF_MEMORY, _NOT_EXCHANGED = 1, 2, 3, 4

_int, _double, _pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class LinearBlock(ctypes.Structure):
    """One irrep of a linear layer."""

    _fields_ = [
        *((name, _int) for name in ("components", "in_offset", "in_stride", "out_offset", "out_stride")),
        *((name, _int) for name in ("k", "padded_k", "n")),
        *((name, _pointer) for name in ("weight", "transposed")),
    ]


class Linear(ctypes.Structure):
    """A linear layer."""

    _fields_ = [("num_blocks", _int), ("per_species", _int), ("blocks", ctypes.POINTER(LinearBlock))]


class NetworkPath(ctypes.Structure):
    """One product of the convolution."""

    _fields_ = [
        *((name, _int) for name in ("l1", "l2", "l3", "chunks", "x_offset", "x_stride", "y_offset", "out_offset")),
        *((name, _int) for name in ("out_stride", "table_offset")),
        ("couplings", _pointer),
    ]


class GateBlock(ctypes.Structure):
    """One irrep of a gate: kind 0 silu, 1 tanh, 2 gated."""

    _fields_ = [(name, _int) for name in ("kind", "components", "width", "in_offset", "gate_offset", "out_offset")]


class SquareTerm(ctypes.Structure):
    """One product of two numbers."""

    _fields_ = [*((name, _int) for name in ("first", "second", "out")), ("value", _double)]


class SquarePath(ctypes.Structure):
    """Products of two irreps of a row, weighted by channel."""

    _fields_ = [
        *((name, _int) for name in ("width", "num_terms", "num_gradient_terms")),
        *((name, ctypes.POINTER(SquareTerm)) for name in ("terms", "gradient_terms")),
        ("weight", _pointer),
    ]


class NormBlock(ctypes.Structure):
    """One segment of a normalized row."""

    _fields_ = [
        *((name, _int) for name in ("components", "width", "offset")),
        ("coefficient", _double),
        ("scale", _pointer),
    ]


class NetworkLayer(ctypes.Structure):
    """One interaction."""

    _fields_ = [
        *((name, _int) for name in ("dim_x", "dim_conv", "dim_pre", "dim_out", "num_paths")),
        ("paths", ctypes.POINTER(NetworkPath)),
        ("table", _pointer),
        ("table_row", _int),
        *((name, Linear) for name in ("linear_in", "linear_out", "self_connection")),
        *((name, _pointer) for name in ("first_x", "first_pre", "x_bias", "pre_bias")),
        *((name, _int) for name in ("dim_square", "num_squares")),
        ("squares", ctypes.POINTER(SquarePath)),
        ("square_out", Linear),
        ("num_norms", _int),
        ("norms", ctypes.POINTER(NormBlock)),
        ("norm_epsilon", _double),
        ("num_gates", _int),
        ("gates", ctypes.POINTER(GateBlock)),
    ]


class HiddenLayer(ctypes.Structure):
    """A hidden layer of the read-out."""

    _fields_ = [*((name, _int) for name in ("k", "padded_k", "n")), ("weight", _pointer), ("transposed", _pointer)]


class HarmonicStep(ctypes.Structure):
    """One term of the recursion of spherical harmonics."""

    _fields_ = [("a", _int), ("b", _int), ("m", _int), ("value", _double)]


class Network(ctypes.Structure):
    """A frozen network."""

    _fields_ = [
        ("num_layers", _int),
        ("l_max", _int),
        ("layers", ctypes.POINTER(NetworkLayer)),
        ("steps_first", _pointer),
        ("steps", ctypes.POINTER(HarmonicStep)),
        ("cutoff", _double),
        ("num_species", _int),
        ("stretch", _pointer),
        ("sender", _pointer),
        ("num_intervals", _int),
        ("num_hidden", _int),
        ("hidden", ctypes.POINTER(HiddenLayer)),
        ("readout_k", _int),
        ("readout", _pointer),
        ("scale", _pointer),
        ("shift", _pointer),
    ]


# Rows of atoms (N, width), to be changed in place: those of ghosts filled with their owners', or, for gradients,
# added to their owners'.
Exchange = Callable[[NDArray, bool], None]
_EXCHANGE = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, _int, _pointer, _int, _int)


class _Problem(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("num_atoms", "num_centres", "num_edges")),
        *((name, _pointer) for name in ("edge_index", "species", "edge_vectors", "energies", "forces", "virials")),
        ("exchange", _EXCHANGE),
        ("context", _pointer),
    ]


def best_level() -> int:
    """Highest instruction set of the processor: 0 baseline, 1 AVX2, 2 AVX-512; -1 without compiled kernels."""
    lib = library()
    return -1 if lib is None else int(lib.conv_best_level())


def lanes(level: int, dtype: np.dtype) -> int:
    """Numbers in one vector."""
    return (16, 32, 64)[level] // dtype.itemsize


def _own_memory(owner: object, kind: str) -> tuple[ctypes.CDLL, int]:
    """The library, and the address of memory that it frees when ``owner`` goes: kind_create(), kind_free(address)."""
    lib = library()
    assert lib is not None
    create, free = getattr(lib, f"{kind}_create"), getattr(lib, f"{kind}_free")
    create.restype, free.argtypes, free.restype = _pointer, [_pointer], None
    memory = create()
    if memory is None:
        raise MemoryError("no memory for the compiled network")
    weakref.finalize(owner, free, memory)
    return lib, memory


class NetworkRunner:
    """Runs a :class:`Network`; keeps the memory of one calculation for the next. Calls take turns.

    Parameters
    ----------
    network : Network
        Padded for ``level`` and ``dtype``.
    level : int
        See :func:`best_level`.
    dtype : numpy.dtype
        float32 or float64.
    """

    def __init__(self, network: Network, level: int, dtype: np.dtype):
        lib, self._memory = _own_memory(self, "network_memory")
        lib.network_run.argtypes = [*[_pointer] * 3, *[ctypes.c_int] * 3]
        self._run, self._network = lib.network_run, network
        self._level, self._is_double, self._real = level, dtype.itemsize == 8, dtype
        self._turn = threading.Lock()

    def __call__(
        self,
        species: NDArray[np.int64],
        edge_index: NDArray[np.int64],
        edge_vectors: NDArray[np.float64],
        *,
        forces: bool,
        virials: bool,
        threads: int,
        num_centres: int | None = None,
        exchange: Exchange | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Energies (N,), forces (N, 3) and virials (N, 3, 3) of atoms; None where not asked for.

        With ghosts, atoms that other processes own, energies are those of the centres, (num_centres,); forces and
        virials of the ghosts are what the centres do to them, and belong to their owners.

        Parameters
        ----------
        species : numpy.ndarray
            (N,) indices into the model's species.
        edge_index : numpy.ndarray
            (2, E), sorted by centre.
        edge_vectors : numpy.ndarray
            (E, 3) Å.
        num_centres : int, optional
            The first so many atoms have edges; the others are ghosts.
        exchange : callable, optional
            Called for every layer but the first with rows of all atoms, (N, width), and whether they are gradients.

        Raises
        ------
        IndexError, ValueError, MemoryError
            If an edge names an atom that is not there, edges are not sorted, or memory is short.
        Exception
            What ``exchange`` raised.
        """
        call = _Call(species, edge_index, edge_vectors, forces=forces, virials=virials)
        if (exchange is None) != (num_centres is None):
            raise ValueError("num_centres and exchange belong together: give both, or neither")
        if exchange is not None and num_centres is not None:
            call.with_ghosts(num_centres, exchange, self._real)
        with self._turn:
            status = self._run(
                self._memory,
                ctypes.byref(self._network),
                ctypes.byref(call.problem),
                self._is_double,
                self._level,
                threads,
            )
        call.check(status)
        return call.energies, call.forces, call.virials


class TrainingRunner:
    """Runs a :class:`Network` whose tables are coefficients of cubic B-splines, and its gradients by the weights.

    Parameters
    ----------
    network : Network
        Padded for ``level`` and ``dtype``, its arrays of weights side by side in one piece of memory.
    level : int
        See :func:`best_level`.
    dtype : numpy.dtype
        float32 or float64.
    weights : int
        Address of that memory.
    """

    def __init__(self, network: Network, level: int, dtype: np.dtype, weights: int):
        lib, self._memory = _own_memory(self, "network_training")
        lib.network_train_forces.argtypes = [*[_pointer] * 3, *[ctypes.c_int] * 3]
        lib.network_train_gradients.argtypes = [*[_pointer] * 6, _int, *[ctypes.c_int] * 2]
        self._library, self._network, self._weights = lib, network, weights
        self._level, self._is_double = level, dtype.itemsize == 8
        self._call: _Call | None = None
        self.calls = 0  # of forces(): gradients() are those of the last

    def forces(
        self,
        species: NDArray[np.int64],
        edge_index: NDArray[np.int64],
        edge_vectors: NDArray[np.float64],
        *,
        threads: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """As :class:`NetworkRunner` with forces and virials; :meth:`gradients` may follow."""
        self._call = call = _Call(species, edge_index, edge_vectors, forces=True, virials=True)
        self.calls += 1
        arguments = (self._memory, ctypes.byref(self._network), ctypes.byref(call.problem))
        call.check(self._library.network_train_forces(*arguments, self._is_double, self._level, threads))
        assert call.forces is not None
        assert call.virials is not None
        return call.energies, call.forces, call.virials

    def gradients(
        self, energy_weights: NDArray[np.float64], edge_tangents: NDArray[np.float64], gradients: int, size: int
    ) -> None:
        """Gradients by the weights of ``Σ_i a_i E_i + Σ_e t_e · dE/dr_e`` in the last call.

        Parameters
        ----------
        energy_weights, edge_tangents : numpy.ndarray
            a (N,) and t (E, 3), float64.
        gradients, size : int
            Address of as many numbers as there are weights, in the network's precision.
        """
        assert self._call is not None
        arrays = (np.ascontiguousarray(energy_weights), np.ascontiguousarray(edge_tangents))
        addresses = (*(array.ctypes.data for array in arrays), self._weights, gradients)
        status = self._library.network_train_gradients(
            self._memory, ctypes.byref(self._network), *addresses, size, self._is_double, self._level
        )
        self._call.check(status)


class _Call:
    """Arrays of one calculation, and the struct that points to them."""

    def __init__(
        self,
        species: NDArray[np.int64],
        edge_index: NDArray[np.int64],
        edge_vectors: NDArray[np.float64],
        *,
        forces: bool,
        virials: bool,
    ):
        n = len(species)
        self.energies = np.empty(n)
        self.forces = np.empty((n, 3)) if forces or virials else None
        self.virials = np.empty((n, 3, 3)) if virials else None
        self._arrays = (
            np.ascontiguousarray(edge_index, dtype=np.int64),
            np.ascontiguousarray(species, dtype=np.int64),
            np.ascontiguousarray(edge_vectors, dtype=np.float64),
            self.energies,
            self.forces,
            self.virials,
        )
        self._size = n, edge_index.shape[1]
        addresses = (None if array is None else array.ctypes.data for array in self._arrays)
        self.problem = _Problem(n, n, edge_index.shape[1], *addresses)
        self._raised: BaseException | None = None

    def with_ghosts(self, num_centres: int, exchange: Exchange, dtype: np.dtype) -> None:
        """Let the atoms from ``num_centres`` on be ghosts."""
        number = ctypes.c_double if dtype.itemsize == 8 else ctypes.c_float

        def call_exchange(_: Any, gradients: int, rows: int, width: int, stride: int) -> int:
            n = self._size[0]
            try:
                flat = np.ctypeslib.as_array((number * (n * stride)).from_address(rows)) if n else np.empty(0, dtype)
                exchange(flat.reshape(n, stride)[:, :width], bool(gradients))
            except BaseException as error:  # must not pass through the library's frames
                self._raised = error
                return 1
            return 0

        self.energies = self.energies[:num_centres]
        self.problem.num_centres = num_centres
        self.problem.exchange = _EXCHANGE(call_exchange)

    def check(self, status: int) -> None:
        """Raise what the library reports."""
        n, e = self._size
        if status == _NOT_EXCHANGED:
            assert self._raised is not None
            raise self._raised
        if status == _BAD_EDGE:
            raise IndexError(f"edge_index holds atoms beyond 0 to {n - 1}")
        if status == _UNSORTED:
            raise ValueError("edge_index is not sorted by centre (its row 0)")
        if status == _OUT_OF_MEMORY:
            raise MemoryError(f"no memory for {n} atoms with {e} edges")
