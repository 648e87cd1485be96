"""The constants of a plan as tensors that follow their module's device and dtype without losing digits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ase_equivariant.kernels.plan import ConvPlan


class Constants(nn.Module):
    """Exact float64 constants, cast afresh whenever the module changes dtype.

    An ordinary buffer that went to float32 and back would keep float32's error;
    equivariance then holds to 1e-7 only. These keep their float64 original.
    They are not saved: they follow from the configuration.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, Tensor] = {}

    def add_constant(self, name: str, value: Tensor) -> None:
        """Register ``value`` (float64, or an integer tensor) under ``name``."""
        self._exact[name] = value
        self.register_buffer(name, value.clone(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Constants:
        super()._apply(fn, recurse)
        for name, exact in self._exact.items():
            cast: Tensor = getattr(self, name)
            setattr(self, name, exact.to(device=cast.device, dtype=cast.dtype))
        return self


class PlanTables(Constants):
    """Coupling coefficients and index tables of one :class:`ConvPlan`."""

    out_order: Tensor

    def __init__(self, plan: ConvPlan):
        super().__init__()
        for k, group in enumerate(plan.by_source):
            self.add_constant(f"coupling_{k}", plan.coupling(group))
            self.add_constant(f"path_of_component_{k}", plan.path_of_component(group))
        self.add_constant("out_order", plan.out_order)
        self.num_groups = len(plan.by_source)

    @property
    def couplings(self) -> list[Tensor]:
        """For each source block: (dim of harmonics, Σ(2·l3+1) · (2·l1+1))."""
        return [getattr(self, f"coupling_{k}") for k in range(self.num_groups)]

    @property
    def path_of_component(self) -> list[Tensor]:
        """For each source block: (Σ(2·l3+1),) index of the path behind each component."""
        return [getattr(self, f"path_of_component_{k}") for k in range(self.num_groups)]
