"""The tensor-product convolution and its derivatives, fused, on the CPU.

The operation ``out = T(x, Y, w)`` is linear in each of its three arguments, so four kernels
give all derivatives that training on forces takes:

=========== =============================================================== ==================
forward     ``T(x, Y, w)``                                                  rows of centres
backward    gradients of ``g·T(x, Y, w)`` with respect to x, Y, w           rows of neighbours
forward2    ``T(x', Y, w) + T(x, Y', w) + T(x, Y, w')``                     rows of centres
backward2   gradients of ``g·`` forward2 with respect to x, Y, w            rows of neighbours
=========== =============================================================== ==================

Each row is summed by one thread in the order of its edges: results do not depend on the
number of threads, bit by bit. Nothing of size edges × features is made besides the inputs and
their gradients. How it works inside: ``csrc/tile.h``.
"""

from __future__ import annotations

import ctypes
import math
import warnings
import weakref
import zlib
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from ase_equivariant.irreps import clebsch_gordan
from ase_equivariant.kernels.plan import ConvPlan

LIBRARY = FilePath(__file__).with_name("_conv.so")
CSRC = FilePath(__file__).with_name("csrc")
L_MAX = 4
_FORWARD, _BACKWARD, _FORWARD2, _BACKWARD2 = range(4)
_BAD_EDGE = 1


class _Path(ctypes.Structure):
    """``Path`` of csrc/conv.h."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("l1", "l2", "l3", "mul", "x_offset", "y_offset", "w_offset", "out_offset", "out_stride", "unused")
    ]


class _Problem(ctypes.Structure):
    """``Problem`` of csrc/conv.h."""

    _fields_ = [
        ("num_atoms", ctypes.c_int64),
        ("num_edges", ctypes.c_int64),
        *[(name, ctypes.c_void_p) for name in ("edge_index", "x", "y", "w", "tx", "ty", "tw", "g")],
        *[(name, ctypes.c_void_p) for name in ("out", "dx", "dy", "dw")],
    ]


def _fits(lib: ctypes.CDLL) -> bool:
    """Whether the library was compiled from the headers whose structs are mirrored here and in ``network.py``."""
    interface = getattr(lib, "conv_interface", None)
    if interface is None:
        return False
    interface.restype = ctypes.c_uint32
    headers = (CSRC / name for name in ("conv.h", "network.h"))
    return interface() == zlib.crc32(b"".join(header.read_bytes() for header in headers))


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None, with one warning, if the installation has none."""
    try:
        lib = ctypes.CDLL(str(LIBRARY))
        problem = "" if _fits(lib) else f"{LIBRARY} was built from other sources"
    except OSError as error:
        problem = str(error)
    if problem:
        warnings.warn(
            f"no compiled kernels ({problem}): the slower reference kernels are used. "
            "Install a C++ compiler (such as g++) and reinstall ase-equivariant",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    lib.conv_plan_create.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 4]
    lib.conv_plan_free.argtypes = [ctypes.c_void_p]
    lib.conv_plan_free.restype = None
    lib.conv_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 4]
    lib.conv_use_openmp.argtypes = [ctypes.c_void_p]
    lib.conv_use_openmp.restype = None
    parallel = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    lib.conv_use_openmp(ctypes.cast(parallel, ctypes.c_void_p) if parallel is not None else None)
    return lib


class FusedPlan:
    """A plan on the library's side: made once, kept as long as the plan lives.

    Attributes
    ----------
    dim_x, dim_y, dim_w, dim_out : int
        Lengths of the rows of features, harmonics, weights and result.
    """

    def __init__(self, lib: ctypes.CDLL, plan: ConvPlan):
        paths, couplings = [], [torch.zeros(0, dtype=torch.float64)]
        for path in plan.paths:
            l1, l2, l3 = path.source.l, path.harmonic.l, path.out.l
            out_offset = path.out.offset + path.channel_offset
            offsets = (path.source.offset, path.harmonic.offset, path.weight_offset, out_offset)
            paths.append(_Path(l1, l2, l3, path.source.mul, *offsets, path.out.mul, 0))
            couplings.append(math.sqrt(2 * l3 + 1) * clebsch_gordan(l1, l2, l3).flatten())
        values = torch.cat(couplings)
        self.dim_x, self.dim_y = plan.irreps_in.dim, plan.irreps_sh.dim
        self.dim_w, self.dim_out = plan.num_weights, plan.irreps_out.dim
        dims = (ctypes.c_int64 * 4)(self.dim_x, self.dim_y, self.dim_w, self.dim_out)
        self._pointer = ctypes.c_void_p()
        status = lib.conv_plan_create(
            len(paths), (_Path * len(paths))(*paths), dims, values.data_ptr(), ctypes.byref(self._pointer)
        )
        if status:
            raise ValueError(
                f"the Clebsch-Gordan coefficients of {plan.irreps_in} x {plan.irreps_sh} break the selection rule of "
                "real harmonics that the fused kernels rely on: they are not in e3nn's basis"
            )
        self._run = lib.conv_run
        weakref.finalize(self, lib.conv_plan_free, self._pointer)

    def run(self, operation: int, level: int, edge_index: Tensor, **tensors: Tensor) -> None:
        """Run one kernel on contiguous tensors named as the fields of ``Problem``."""
        x = tensors["x"]
        pointers = {name: tensor.data_ptr() for name, tensor in tensors.items()}
        problem = _Problem(x.shape[0], edge_index.shape[1], edge_index.data_ptr(), **pointers)
        is_double = x.dtype == torch.float64
        threads = torch.get_num_threads()
        if self._run(self._pointer, ctypes.byref(problem), operation, is_double, level, threads) == _BAD_EDGE:
            low, high = int(edge_index.min()), int(edge_index.max())
            raise IndexError(f"edge_index holds atoms {low} to {high}: keep them from 0 to {x.shape[0] - 1}")


_fused_plans: weakref.WeakKeyDictionary[ConvPlan, FusedPlan | None] = weakref.WeakKeyDictionary()


def fused_plan(plan: ConvPlan) -> FusedPlan | None:
    """The plan's fused kernels, or None: a degree above :data:`L_MAX`, or no library (see :func:`library`)."""
    try:
        return _fused_plans[plan]
    except KeyError:
        degrees = {l for path in plan.paths for l in (path.source.l, path.harmonic.l, path.out.l)}  # noqa: E741
        degrees |= {ir.l for _, ir in plan.irreps_sh}  # the kernels copy all of them, whether a path reads them or not
        lib = library() if max(degrees, default=0) <= L_MAX else None
        fused = _fused_plans[plan] = None if lib is None else FusedPlan(lib, plan)
        return fused


def _forward(x: Tensor, y: Tensor, w: Tensor, edge_index: Tensor, plan: FusedPlan, level: int) -> Tensor:
    out = x.new_empty(x.shape[0], plan.dim_out)
    plan.run(_FORWARD, level, edge_index, x=x, y=y, w=w, out=out)
    return out


def _backward(
    g: Tensor, x: Tensor, y: Tensor, w: Tensor, edge_index: Tensor, plan: FusedPlan, level: int
) -> tuple[Tensor, Tensor, Tensor]:
    dx, dy, dw = torch.empty_like(x), torch.empty_like(y), torch.empty_like(w)
    plan.run(_BACKWARD, level, edge_index, g=g, x=x, y=y, w=w, dx=dx, dy=dy, dw=dw)
    return dx, dy, dw


class _Conv(torch.autograd.Function):
    """T(x, Y, w)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, w: Tensor, edge_index: Tensor, plan: FusedPlan, level: int) -> Tensor:
        ctx.save_for_backward(x, y, w, edge_index)
        ctx.plan, ctx.level = plan, level
        return _forward(x, y, w, edge_index, plan, level)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, y, w, edge_index = ctx.saved_tensors
        gradient = _ConvBackward.apply if torch.is_grad_enabled() else _backward
        gradients = gradient(g.contiguous(), x, y, w, edge_index, ctx.plan, ctx.level)
        return (*gradients, None, None, None)


class _ConvBackward(torch.autograd.Function):
    """Gradients of g·T(x, Y, w) with respect to x, Y and w."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, y: Tensor, w: Tensor, edge_index: Tensor, plan: FusedPlan, level: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(g, x, y, w, edge_index)
        ctx.plan, ctx.level = plan, level
        return _backward(g, x, y, w, edge_index, plan, level)

    @staticmethod
    def backward(ctx: Any, tx: Tensor, ty: Tensor, tw: Tensor) -> tuple[Tensor | None, ...]:
        # tx·dx + ty·dy + tw·dw = g·(T(tx, Y, w) + T(x, tY, w) + T(x, Y, tw)), to be derived by g, x, Y and w.
        g, x, y, w, edge_index = ctx.saved_tensors
        tx, ty, tw = tx.contiguous(), ty.contiguous(), tw.contiguous()
        second = _third_order if torch.is_grad_enabled() else _second_order
        return (*second(g, x, y, w, tx, ty, tw, edge_index, ctx.plan, ctx.level), None, None, None)


def _second_order(
    g: Tensor,
    x: Tensor,
    y: Tensor,
    w: Tensor,
    tx: Tensor,
    ty: Tensor,
    tw: Tensor,
    edge_index: Tensor,
    plan: FusedPlan,
    level: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``g·(T(tx, Y, w) + T(x, tY, w) + T(x, Y, tw))`` by g, x, Y, w in two passes over the edges."""
    primal = {"x": x, "y": y, "w": w, "tx": tx, "ty": ty, "tw": tw}
    dg, dx, dy, dw = torch.empty_like(g), torch.empty_like(x), torch.empty_like(y), torch.empty_like(w)
    plan.run(_FORWARD2, level, edge_index, **primal, out=dg)
    plan.run(_BACKWARD2, level, edge_index, **primal, g=g, dx=dx, dy=dy, dw=dw)
    return dg, dx, dy, dw


def _third_order(
    g: Tensor,
    x: Tensor,
    y: Tensor,
    w: Tensor,
    tx: Tensor,
    ty: Tensor,
    tw: Tensor,
    edge_index: Tensor,
    plan: FusedPlan,
    level: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same from differentiable pieces, for third and higher derivatives."""
    rest = (edge_index, plan, level)
    dg = _Conv.apply(tx, y, w, *rest) + _Conv.apply(x, ty, w, *rest) + _Conv.apply(x, y, tw, *rest)
    _, dy_x, dw_x = _ConvBackward.apply(g, tx, y, w, *rest)
    dx_y, _, dw_y = _ConvBackward.apply(g, x, ty, w, *rest)
    dx_w, dy_w, _ = _ConvBackward.apply(g, x, y, tw, *rest)
    return dg, dx_y + dx_w, dy_x + dy_w, dw_x + dw_y


def tensor_product_conv(
    node_features: Tensor, harmonics: Tensor, weights: Tensor, edge_index: Tensor, plan: ConvPlan, *, level: int = 2
) -> Tensor:
    """As :func:`ase_equivariant.kernels.reference.tensor_product_conv`, on CPU tensors.

    Parameters
    ----------
    level : int
        Highest instruction set to use, if the processor has it: 0 baseline, 1 AVX2, 2 AVX-512.

    Raises
    ------
    ValueError
        If shapes or types do not fit the plan and one another, or the plan has no fused kernels.
    IndexError
        If ``edge_index`` names an atom that does not exist.
    """
    fused = fused_plan(plan)
    if fused is None:
        raise ValueError(f"no fused kernels for {plan.irreps_in} x {plan.irreps_sh}: use the reference kernels")
    num_atoms, num_edges, dtype = node_features.shape[0], edge_index.shape[1], node_features.dtype
    for name, tensor, shape in (
        ("node_features", node_features, (num_atoms, fused.dim_x)),
        ("harmonics", harmonics, (num_edges, fused.dim_y)),
        ("weights", weights, (num_edges, fused.dim_w)),
    ):
        if tensor.shape != shape or tensor.dtype != dtype:
            raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}: this plan needs {shape} {dtype}")
    inputs = (node_features.contiguous(), harmonics.contiguous(), weights.contiguous(), edge_index.contiguous())
    out: Tensor = _Conv.apply(*inputs, fused, level)
    return out
