"""TorchSim: molecular dynamics and relaxation of many systems in one batch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ase_equivariant.engines.batch import BatchEvaluator
from ase_equivariant.engines.foreign import foreign
from ase_equivariant.potential.potential import Potential


def torchsim_model(
    model: str | Path | Potential,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    state_dtype: torch.dtype = torch.float64,
    stress: bool = True,
    skin: float = 1.0,
    modal: str | None = None,
) -> Any:
    """A model for TorchSim: ``ts.integrate(system=atoms, model=torchsim_model("si"), …)``.

    Neighbour lists are our own, exact and reused while atoms move little; they are built on the CPU.

    Parameters
    ----------
    model, device, skin, modal
        As for :class:`~ase_equivariant.EquivariantCalculator`.
    dtype : "float32" or "float64", optional
        Precision of the network; default float64.
    state_dtype : torch.dtype
        Of the positions and results that TorchSim handles, its ``model.dtype``. float32 rounds total energies.
    stress : bool
        Whether to compute stresses.

    Returns
    -------
    torch_sim.models.interface.ModelInterface
        ``forward(state)`` gives ``energy`` (S,) eV, ``forces`` (N, 3) eV/Å and ``stress`` (S, 3, 3) eV/Å³, tensile
        positive, zero for systems without a cell.

    Raises
    ------
    ImportError
        If TorchSim is not installed.

    References
    ----------
    Cohen et al., TorchSim, AI Sci. 1, 025003 (2025), arXiv:2508.06628.
    """
    evaluator = BatchEvaluator(model, device=device, dtype=dtype, skin=skin, modal=modal)
    return _model_class()(evaluator, state_dtype, stress)


class BatchedForward:
    """What is ours in a TorchSim model; TorchSim's own base class is joined to it when it is needed.

    Parameters
    ----------
    evaluator : BatchEvaluator
        Holds the model.
    state_dtype : torch.dtype
        Of the results.
    stress : bool
        Whether to compute it.
    """

    def __init__(self, evaluator: BatchEvaluator, state_dtype: torch.dtype, stress: bool):
        super().__init__()
        self.evaluator = evaluator
        self._device, self._dtype = evaluator.device, state_dtype
        self._compute_forces, self._compute_stress = True, stress
        self._memory_scales_with = "n_atoms_x_density"

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Energies, forces and stresses of all systems of a ``torch_sim.SimState`` (or, in 0.3, its dictionary)."""
        prediction = self.evaluator(systems_of(state), stress=self._compute_stress)
        result = {"energy": prediction["energy"], "forces": prediction["forces"]}
        if self._compute_stress:
            none = torch.zeros_like(prediction["virial"])
            result["stress"] = torch.nan_to_num(prediction.get("stress", none), nan=0.0)
        return {name: value.detach().to(self._device, self._dtype) for name, value in result.items()}


def systems_of(state: Any) -> list[Atoms]:
    """The systems of a TorchSim state, whose cells have lattice vectors as *columns*, as Atoms."""
    get = state.__getitem__ if isinstance(state, dict) else state.__getattribute__
    positions, cells, numbers = (
        get(name).detach().to("cpu").numpy() for name in ("positions", "cell", "atomic_numbers")
    )
    owner = get("system_idx")
    owner = np.zeros(len(positions), dtype=int) if owner is None else owner.cpu().numpy()
    pbc = np.broadcast_to(torch.as_tensor(get("pbc")).cpu().numpy(), (3,))
    ends = np.searchsorted(owner, np.arange(len(cells) + 1))  # atoms of a system follow each other
    return [
        Atoms(numbers[start:end], positions[start:end], cell=cell.T, pbc=pbc)
        for start, end, cell in zip(ends[:-1], ends[1:], cells, strict=True)
    ]


@cache
def _model_class() -> type:
    interface = foreign("torch_sim.models.interface", "torch-sim-atomistic", "torchsim").ModelInterface
    return type("EquivariantModel", (BatchedForward, interface), {"__module__": __name__})
