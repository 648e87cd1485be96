"""Which kernels run: one rule, and one way to override it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor

from ase_equivariant.kernels import cpu, reference
from ase_equivariant.kernels.plan import ConvPlan
from ase_equivariant.kernels.tables import PlanTables

Backend = Literal["auto", "reference"]

_backend: ContextVar[Backend] = ContextVar("backend", default="auto")


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Choose the kernels of all convolutions evaluated inside the ``with`` block, in this thread.

    ``"reference"`` is the definition in plain PyTorch, to check the fast kernels against;
    ``"auto"`` the fastest that apply.
    """
    token = _backend.set(backend)
    try:
        yield
    finally:
        _backend.reset(token)


def runs_fused(node_features: Tensor, plan: ConvPlan) -> bool:
    """Whether the fused CPU kernels apply: float32 or float64 on the CPU, degrees up to 4, the library there.

    A graph that PyTorch traces cannot hold them.
    """
    return (
        _backend.get() == "auto"
        and node_features.device.type == "cpu"
        and node_features.dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and cpu.fused_plan(plan) is not None
    )


def tensor_product_conv(
    node_features: Tensor, harmonics: Tensor, weights: Tensor, edge_index: Tensor, plan: ConvPlan, tables: PlanTables
) -> Tensor:
    """The convolution by the fastest kernels that apply; see :mod:`ase_equivariant.kernels.reference`."""
    if runs_fused(node_features, plan):
        return cpu.tensor_product_conv(node_features, harmonics, weights, edge_index, plan)
    return reference.tensor_product_conv(node_features, harmonics, weights, edge_index, plan, tables)
