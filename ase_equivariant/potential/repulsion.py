"""Ziegler-Biersack-Littmark screened nuclear repulsion, so that close contacts repel."""

from __future__ import annotations

import torch
from ase.units import _e, _eps0
from torch import Tensor

from ase_equivariant.kernels import Constants
from ase_equivariant.nn.radial import PolynomialCutoff

COULOMB = _e / (4 * torch.pi * _eps0) * 1e10  # e²/(4πε₀) in eV·Å; a polarizability in e²·Å²/eV times it is one in Å³
COULOMB_IN_LAMMPS = 14.399645  # eV·Å, as its metal units have it
SCREENING_LENGTH = 0.46850  # Å
_AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
_DECAYS = (3.19980, 0.94229, 0.40290, 0.20162)


class ZBL(Constants):
    """``E_ij = e²/(4πε₀) Z_i Z_j / r · φ(r/a) + S(r)``, ``a = 0.46850 / (Z_i^0.23 + Z_j^0.23)`` Å.

    S(r) is LAMMPS' switching polynomial: between ``inner`` and ``outer`` it brings energy,
    force and curvature to zero.

    Parameters
    ----------
    atomic_numbers : Tensor
        (n_species,) nuclear charges in the model's order.
    inner, outer : float
        Å; the repulsion ends at ``outer``.

    References
    ----------
    Ziegler, Biersack, Littmark (1985); LAMMPS documentation of ``pair_style zbl``.
    """

    charges: Tensor
    cubic: Tensor
    quartic: Tensor
    constant: Tensor

    def __init__(self, atomic_numbers: Tensor, inner: float, outer: float):
        super().__init__()
        if not 0 < inner < outer:
            raise ValueError(f"ZBL switches from {inner} to {outer} Å: choose 0 < inner < outer")
        self.inner, self.outer = inner, outer
        charges = atomic_numbers.to(torch.float64)
        self.add_constant("charges", charges)
        a, b, c = _switch(*_unswitched(charges.unsqueeze(0), charges.unsqueeze(1), inner, outer), inner, outer)
        self.add_constant("cubic", a)
        self.add_constant("quartic", b)
        self.add_constant("constant", c)

    def forward(self, species: Tensor, edge_index: Tensor, r: Tensor) -> Tensor:
        """Energy of every atom, (N,) eV in the dtype of ``r`` (E,): half of each directed edge."""
        i, j = species[edge_index[0]], species[edge_index[1]]
        near = r.clamp(max=self.outer)  # beyond `outer` the energy is exactly zero, with its derivatives
        beyond = (near - self.inner).clamp(min=0)
        pair = _zbl(self.charges[i], self.charges[j], near) + self.constant[i, j]
        pair = pair + beyond.pow(3) * (self.cubic[i, j] / 3 + self.quartic[i, j] / 4 * beyond)
        pair = torch.where(r < self.outer, pair, torch.zeros_like(pair))
        return r.new_zeros(species.shape[0]).index_add(0, edge_index[0], 0.5 * pair)


class EnvelopedZBL(Constants):
    """``E_ij = e²/(4πε₀) Z_i Z_j / r · φ(r/a) · u_p(r / cutoff_ij)``, NequIP's form of the repulsion.

    u_p is the polynomial envelope of :class:`~ase_equivariant.nn.radial.PolynomialCutoff`: the
    repulsion is weakened at all distances and ends at the network's cutoff. The constant is LAMMPS'.

    Parameters
    ----------
    atomic_numbers : Tensor
        (n_species,) nuclear charges in the model's order.
    pair_cutoffs : Tensor
        (n_species, n_species) Å; rows are the species of the centre.
    p : float
        Exponent of the envelope.
    """

    charges: Tensor
    inverse_cutoffs: Tensor

    def __init__(self, atomic_numbers: Tensor, pair_cutoffs: Tensor, p: float):
        super().__init__()
        self.add_constant("charges", atomic_numbers.to(torch.float64))
        self.add_constant("inverse_cutoffs", pair_cutoffs.reciprocal())
        self.outer = float(pair_cutoffs.max())
        self.envelope = PolynomialCutoff(1.0, p)

    def forward(self, species: Tensor, edge_index: Tensor, r: Tensor) -> Tensor:
        """Energy of every atom, (N,) eV in the dtype of ``r`` (E,): half of each directed edge."""
        i, j = species[edge_index[0]], species[edge_index[1]]
        pair = _zbl(self.charges[i], self.charges[j], r, COULOMB_IN_LAMMPS)
        pair = pair * self.envelope(r * self.inverse_cutoffs[i, j])
        return r.new_zeros(species.shape[0]).index_add(0, edge_index[0], 0.5 * pair)


def _zbl(z_i: Tensor, z_j: Tensor, r: Tensor, coulomb: float = COULOMB) -> Tensor:
    """Bare ZBL energy of a pair in eV; charges and distances broadcast."""
    x = r * (z_i.pow(0.23) + z_j.pow(0.23)) / SCREENING_LENGTH
    screening = sum(c * torch.exp(-d * x) for c, d in zip(_AMPLITUDES, _DECAYS, strict=True))
    return coulomb * z_i * z_j / r * screening


def _unswitched(z_i: Tensor, z_j: Tensor, inner: float, outer: float) -> tuple[Tensor, Tensor, Tensor]:
    """Bare energy and its first and second derivative at ``outer`` for all pairs of species."""
    r = torch.full((len(z_j), len(z_i.T)), outer, dtype=torch.float64, requires_grad=True)
    energy = _zbl(z_i, z_j, r)
    (first,) = torch.autograd.grad(energy.sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    return energy.detach(), first.detach(), second


def _switch(energy: Tensor, first: Tensor, second: Tensor, inner: float, outer: float) -> tuple[Tensor, Tensor, Tensor]:
    """A, B, C of ``S = A/3 (r−r1)³ + B/4 (r−r1)⁴ + C`` that cancel energy, slope and curvature at ``outer``."""
    width = outer - inner
    cubic = (-3 * first + width * second) / width**2
    quartic = (2 * first - width * second) / width**3
    constant = -energy + width / 2 * first - width**2 / 12 * second
    return cubic, quartic, constant
