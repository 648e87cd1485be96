"""Kernels: one signature, several backends; the reference is the definition."""

from ase_equivariant.kernels.dispatch import tensor_product_conv, use_backend
from ase_equivariant.kernels.plan import ConvPlan
from ase_equivariant.kernels.tables import Constants, PlanTables

__all__ = ["Constants", "ConvPlan", "PlanTables", "tensor_product_conv", "use_backend"]
