"""What a potential predicts beside the energy."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator
from torch import nn

from ase_equivariant.config import Config
from ase_equivariant.irreps import Irrep, Irreps, merge

# Keys of predictions that a read-out of the user's must not take.
RESERVED = (
    "energy", "free_energy", "energies", "node_energies", "forces", "virial", "node_virials", "stress", "stresses",
    "dipole", "polarizability", "charges", "born_effective_charges", "energy_per_atom",
    "magmom", "magmoms", "dielectric_tensor", "polarization",  # ASE's
)  # fmt: skip


class ReadoutConfig(Config):
    """Keys of every read-out.

    Attributes
    ----------
    kind : str
        Which of them, one literal for each; tells configurations apart.
    hidden : tuple of int
        Channels (of each irrep) of gated layers between the features and the last, linear one; empty for a linear
        read-out.
    """

    kind: str
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = ()
    unit: ClassVar[str] = ""

    @property
    def per_atom(self) -> bool:
        """Whether there is a value for each atom, not for each structure."""
        return False

    @property
    def key(self) -> str:
        """Its name in predictions, results and losses."""
        return self.kind

    def irreps(self) -> Irreps:
        """Merged irreps that it takes from the features of an atom."""
        raise NotImplementedError

    def shape(self) -> tuple[int, ...]:
        """Shape of its value for one structure, or one atom."""
        raise NotImplementedError


class DipoleConfig(ReadoutConfig):
    """Dipole μ (S, 3) in e·Å, a polar vector: ``μ = Σ_i μ_i``, with ``charges`` ``Σ_i (q_i (r_i − R) + μ_i)``.

    R is the centre of mass. Charges are shifted by one amount for all atoms to sum to the structure's, so that the
    dipole of a neutral structure depends on no origin; that of an ion is about its centre of mass. Of a periodic
    structure there is none (it would change by e times a lattice vector with the choice of the cell); its derivative,
    the Born effective charges, there is without ``charges``.

    Attributes
    ----------
    charges : bool
        Whether charges of atoms are part of it.
    """

    kind: Literal["dipole"] = "dipole"
    unit: ClassVar[str] = "e·Å"
    charges: bool = False

    def irreps(self) -> Irreps:
        """1o, and 0e for charges."""
        return Irreps("0e+1o" if self.charges else "1o")

    def shape(self) -> tuple[int, ...]:
        """(3,)."""
        return (3,)


class PolarizabilityConfig(ReadoutConfig):
    """Polarizability α (S, 3, 3), symmetric, in e²·Å²/eV, so that α times a field in V/Å is a dipole in e·Å.

    ``α = Σ_i α_i`` from 0e and 2e; the even scalar adds to a reference value of each species.
    """

    kind: Literal["polarizability"] = "polarizability"
    unit: ClassVar[str] = "e²·Å²/eV"

    def irreps(self) -> Irreps:
        """0e and 2e."""
        return Irreps("0e+2e")

    def shape(self) -> tuple[int, ...]:
        """(3, 3)."""
        return (3, 3)


class ChargesConfig(ReadoutConfig):
    """Charges of atoms (N,) in e, shifted by one amount for all atoms of a structure to sum to its total charge."""

    kind: Literal["charges"] = "charges"
    unit: ClassVar[str] = "e"

    @property
    def per_atom(self) -> bool:
        """Yes."""
        return True

    def irreps(self) -> Irreps:
        """0e."""
        return Irreps("0e")

    def shape(self) -> tuple[int, ...]:
        """Empty."""
        return ()


class IrrepsConfig(ReadoutConfig):
    """Any irreps under a name of the user's, in e3nn's order and basis, (N, dim) by atom or (S, dim) summed.

    Attributes
    ----------
    name : str
        Key in predictions and ``calc.results``.
    value : str
        Irreps in e3nn's notation, such as "0e+1e"; each at most once, sorted as e3nn sorts them.
    of : {"structures", "atoms"}
        Whether it is summed over the atoms of a structure.
    """

    kind: Literal["irreps"] = "irreps"
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    value: str
    of: Literal["structures", "atoms"] = "structures"

    @field_validator("name")
    @classmethod
    def _own_name(cls, name: str) -> str:
        # A module dictionary, which holds read-outs, has methods of its own.
        if name in RESERVED or name.startswith(("forces_", "val_", "train_")) or hasattr(nn.ModuleDict, name):
            raise ValueError(f"{name!r} is the name of another quantity: choose a name of your own")
        return name

    @field_validator("value")
    @classmethod
    def _sorted_irreps(cls, value: str) -> str:
        try:
            irreps = Irreps(value)
        except ValueError:
            raise ValueError(f"{value!r} is not irreps in e3nn's notation, such as '0e+1o'") from None
        if irreps != merge(irreps) or not irreps.dim:
            raise ValueError(f"{value!r} must list each irrep once, in the order of '{merge(irreps) or '0e+1o'}'")
        return value

    @property
    def key(self) -> str:
        """Its name."""
        return self.name

    @property
    def per_atom(self) -> bool:
        """Whether there is a value for each atom."""
        return self.of == "atoms"

    def irreps(self) -> Irreps:
        """Those of the value."""
        return Irreps(self.value)

    def shape(self) -> tuple[int, ...]:
        """(dim,)."""
        return (self.irreps().dim,)


AnyReadout = Annotated[DipoleConfig | PolarizabilityConfig | ChargesConfig | IrrepsConfig, Field(discriminator="kind")]


def irreps_read(readouts: tuple[ReadoutConfig, ...]) -> list[Irrep]:
    """Irreps that read-outs take, each once."""
    return sorted({ir for readout in readouts for _, ir in readout.irreps()})


def readouts_of_atoms(readouts: tuple[ReadoutConfig, ...]) -> frozenset[str]:
    """Names of those with a value for each atom."""
    return frozenset(readout.key for readout in readouts if readout.per_atom)
