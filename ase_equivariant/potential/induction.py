"""Atoms in a field polarize each other."""

from __future__ import annotations

import torch
from ase.units import Bohr, Hartree
from torch import Tensor, nn

from ase_equivariant.graph.graph import AtomicGraph
from ase_equivariant.nn.radial import PolynomialCutoff

COULOMB = Hartree * Bohr  # e²/(4πε₀) in eV·Å
# Product of the damping lengths of two species, Å³, before training: √(α_O α_H)/0.39 with AMOEBA's polarizabilities.
_DAMPING_VOLUME = 1.7


class Induction(nn.Module):
    """Polarizabilities of atoms in each other's dipole fields, to second order.

    ``A_i = α_i + α_i Σ_j T_ij A_j``, twice; ``T = [3 λ₅ r̂ r̂ᵀ − λ₃] C f(r)/r³`` with C = e²/(4πε₀), f the cutoff,
    and Thole's damping ``λ₃ = 1 − e^{−w}``, ``λ₅ = 1 − (1 + w) e^{−w}``, ``w = r³/√(v_i v_j)``. The volumes v of
    species are learnt.

    Parameters
    ----------
    num_species : int
        Number of species.
    cutoff : float
        Å; T vanishes there with two derivatives.

    References
    ----------
    Applequist, Carl and Fung, J. Am. Chem. Soc. 94, 2952 (1972); Thole, Chem. Phys. 59, 341 (1981); Ren and Ponder,
    J. Phys. Chem. B 107, 5933 (2003), eqs. (5) to (8).
    """

    def __init__(self, num_species: int, cutoff: float):
        super().__init__()
        self.cutoff = PolynomialCutoff(cutoff)
        self.log_volume = nn.Parameter(torch.full((num_species,), _DAMPING_VOLUME).log())

    def forward(self, alpha: Tensor, species: Tensor, graph: AtomicGraph) -> Tensor:
        """Map (N, 3, 3) e²·Å²/eV to what each atom adds to the whole, (N, 3, 3); only the sum is symmetric."""
        i, j = graph.edge_index
        fields = self.tensors(graph.edge_vectors.to(alpha.dtype), species[i], species[j])
        induced = alpha
        for _ in range(2):
            at_i = torch.zeros_like(alpha).index_add(0, i, fields @ induced[j])
            induced = alpha + alpha @ at_i
        return induced

    def tensors(self, vectors: Tensor, species_i: Tensor, species_j: Tensor) -> Tensor:
        """T of edges (E, 3), (E, 3, 3) eV/(e²·Å²)."""
        r = torch.linalg.vector_norm(vectors, dim=1)
        volume = (0.5 * (self.log_volume[species_i] + self.log_volume[species_j])).to(vectors.dtype).exp()
        w = r**3 / volume
        three, five = -torch.expm1(-w), 1 - (1 + w) * torch.exp(-w)
        unit = vectors / r.unsqueeze(1)
        outer = 3 * five[:, None, None] * unit.unsqueeze(2) * unit.unsqueeze(1)
        isotropic = three[:, None, None] * torch.eye(3, dtype=vectors.dtype, device=vectors.device)
        return (COULOMB * self.cutoff(r) / r**3)[:, None, None] * (outer - isotropic)
