"""Per-species scale and shift of atomic energies, kept in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Scaling(nn.Module):
    """``E_i = scale[species] · e_i + shift[species]``, in float64 whatever the network's dtype.

    Total energies of thousands of eV carry forces of meV/Å: the sum must not lose them.

    Parameters
    ----------
    num_species : int
        Scales start at 1, shifts (eV) at 0; fill them with :meth:`set`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, num_species: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(num_species, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(num_species, dtype=torch.float64))

    def set(self, scale: Sequence[float] | Tensor | None = None, shift: Sequence[float] | Tensor | None = None) -> None:
        """Set scales (eV) or shifts (eV), one for each species in the model's order.

        Raises
        ------
        ValueError
            If the number of values is not the number of species or a value is not finite.
        """
        for name, values in (("scale", scale), ("shift", shift)):
            if values is None:
                continue
            own = getattr(self, name)
            new = torch.as_tensor(values, dtype=torch.float64, device=own.device)
            if new.shape != own.shape:
                raise ValueError(f"{name} needs one value for each of {len(own)} species, got shape {tuple(new.shape)}")
            if not bool(torch.isfinite(new).all()):
                raise ValueError(f"{name} must be finite, got {new.tolist()}")
            own.copy_(new)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Scaling:
        kept = {name: getattr(self, name) for name in ("scale", "shift")}
        super()._apply(fn, recurse)
        for name, exact in kept.items():
            setattr(self, name, exact.to(getattr(self, name).device))
        return self

    def forward(self, atomic: Tensor, species: Tensor) -> Tensor:
        """Map (N,) network outputs to (N,) float64 energies in eV."""
        return self.scale[species] * atomic.to(torch.float64) + self.shift[species]
