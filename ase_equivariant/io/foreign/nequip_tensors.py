"""The tensors of a NequIP model by the names its state dict has, each taken once and checked."""

from __future__ import annotations

import torch
from ase.data import atomic_numbers
from torch import Tensor

from ase_equivariant.io.foreign.nequip_settings import NequIPSettings
from ase_equivariant.potential.repulsion import COULOMB_IN_LAMMPS

# Buffers of e3nn's modules that follow from the architecture.
_DERIVED = ("output_mask", "_w3j_", "_tensor_constant")


class NequIPFileError(ValueError):
    """A file of NequIP's that does not hold what its settings ask for; the message says what."""


class NequIPTensors:
    """Tensors that are taken by name, as float64.

    Parameters
    ----------
    tensors : dict
        Tensors by name.
    """

    def __init__(self, tensors: dict[str, Tensor]):
        self._left = {
            name: value
            for name, value in tensors.items()
            if value.numel() > 0 and not any(part in name for part in _DERIVED)
        }

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor called ``name``, which must have ``shape`` and finite numbers.

        Raises
        ------
        NequIPFileError
            If it is not so.
        """
        try:
            value = self._left.pop(name)
        except KeyError:
            raise NequIPFileError(f"it has no tensor {name}, which its settings ask for") from None
        if tuple(value.shape) != shape:
            raise NequIPFileError(f"{name} has shape {tuple(value.shape)} where its settings ask for {shape}")
        if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            raise NequIPFileError(f"{name} holds something other than finite numbers")
        return value.detach().to(torch.float64)

    def per_type(self, name: str, num_types: int, default: float) -> Tensor:
        """A number for each species, of a tensor that has one for each, one for all, or is absent."""
        if name not in self._left:
            return torch.full((num_types,), default, dtype=torch.float64)
        size = self._left[name].numel()
        return self.take(name, (num_types if size == num_types else 1, 1)).flatten().expand(num_types).clone()

    def check(self, name: str, expected: Tensor) -> None:
        """Take ``name`` and compare it with what the settings say it is.

        Raises
        ------
        NequIPFileError
            If it is something else: then the settings are not those of this model.
        """
        if not torch.allclose(self.take(name, tuple(expected.shape)), expected, rtol=1e-6, atol=0):
            raise NequIPFileError(f"{name} is not what its settings make it")

    def finish(self) -> None:
        """Refuse a model that has more tensors than were taken.

        Raises
        ------
        NequIPFileError
            Names one of them.
        """
        if self._left:
            raise NequIPFileError(f"it has a tensor {next(iter(self._left))} that is not known")


def check_size(tensors: dict[str, Tensor], settings: NequIPSettings) -> None:
    """Refuse settings of another network than the tensors' before anything is made as large as they say.

    Raises
    ------
    NequIPFileError
        If there are other layers, more channels than numbers in any tensor, or something that is no tensor.
    """
    if strange := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise NequIPFileError(f"{strange[0]} is not a tensor")
    layers = {name.partition("_")[0] for name in tensors if name.startswith("layer")}
    if layers != {f"layer{k}" for k in range(len(settings.hidden))}:
        raise NequIPFileError(f"its settings have {len(settings.hidden)} layers, its tensors {len(layers)}")
    widest = max(mul for irreps in settings.hidden for mul, _ in irreps)
    asked = max(widest, settings.type_embed_num_features, settings.num_bessels, *settings.radial_mlp_width)
    if asked > max(value.numel() for value in tensors.values()):
        raise NequIPFileError(f"its settings ask for {asked} channels, more than its tensors have")


def check_constants(tensors: NequIPTensors, settings: NequIPSettings) -> None:
    """Take the tensors that follow from the settings and compare them: cutoffs, charges, Coulomb's constant."""
    cutoffs = settings.ours().architecture.pair_cutoff_matrix()
    per_pair = settings.per_edge_type_cutoff is not None
    tensors.check("edge_norm._rmax_recip", (cutoffs.flatten() if per_pair else cutoffs[0, 0]).reciprocal())
    if settings.zbl is not None:
        charges = torch.tensor([atomic_numbers[symbol] for symbol in settings.type_names], dtype=torch.float64)
        tensors.check("pair_potential.atomic_numbers", charges)
        half = torch.tensor(COULOMB_IN_LAMMPS / 2, dtype=torch.float64)
        tensors.check("pair_potential._qqr2exesquare", half)
