"""The potentials that the contract is checked for: small networks with random weights, one for each choice."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from ase import Atoms

from ase_equivariant.architectures import ARCHITECTURES, GVPConfig, NequIPConfig
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.potential.potential import Potential, PotentialConfig, Prediction
from ase_equivariant.testing import TEST_SYSTEMS

SPECIES = ("H", "C", "O", "Si")
CUTOFF = 3.5


def _config(potential=None, **settings):
    settings = {"num_layers": 2, "radial_hidden": (8,), "num_radial": 5, "avg_num_neighbors": 12.0, **settings}
    return PotentialConfig(architecture=NequIPConfig(species=SPECIES, cutoff=CUTOFF, **settings), **potential or {})


def _gvp(potential=None, **settings):
    settings = {"num_scalars": 6, "num_vectors": 4, "edge_scalars": 4, "num_radial": 5, "num_layers": 2, **settings}
    network = GVPConfig(species=SPECIES, cutoff=CUTOFF, avg_num_neighbors=12.0, **settings)
    return PotentialConfig(architecture=network, **potential or {})


_THREE_LAYERS = ("4x0e+2x0o+2x1o+1x1e", "3x0e+2x0o+2x1e+2x2e", "5x0e+1x0o+1x1o")

CASES: dict[str, PotentialConfig] = {
    # A new architecture is under contract as soon as it is in the table.
    **{
        f"{config.model_fields['name'].default} defaults": PotentialConfig(
            architecture=config(species=SPECIES, cutoff=CUTOFF, avg_num_neighbors=12.0)
        )
        for config in ARCHITECTURES
    },
    "l=0": _config(l_max=0, irreps_hidden="4x0e"),
    "l=1": _config(l_max=1, irreps_hidden="4x0e+4x1o", num_layers=3),
    "l=2": _config(l_max=2, irreps_hidden="6x0e+4x1o+3x2e"),
    # Pseudo-scalars appear in the third layer at the earliest, from pseudo-vectors of the second.
    "l=3, every parity": _config(l_max=3, irreps_hidden="4x0e+2x0o+2x1e+2x1o+2x2e+1x2o+1x3e+2x3o", num_layers=4),
    "l=4": _config(l_max=4, irreps_hidden="4x0e+2x1o+2x2e+2x3o+2x4e", self_connection="linear"),
    "rotations only": _config(l_max=2, irreps_hidden="4x0e+4x1e+4x2e", parity=False, num_layers=3),
    "xplor cutoff": _config(l_max=2, irreps_hidden="4x0e+4x1o+2x2e", cutoff_function="xplor", xplor_onset=2.0),
    "rms norm": _config(l_max=2, irreps_hidden="4x0e+2x0o+4x1o+2x2e", norm="rms", num_layers=3),
    "rms norm, linear connection": _config(l_max=1, irreps_hidden="4x0e+4x1o", norm="rms", self_connection="linear"),
    "squares": _config(l_max=2, irreps_hidden="4x0e+2x0o+3x1o+2x1e+2x2e", tensor_square=True, num_layers=3),
    "no self-connection": _config(l_max=2, irreps_hidden="4x0e+4x1o+2x2e", self_connection="none"),
    "solid harmonics": _config(l_max=2, irreps_hidden="4x0e+4x1o+2x2e", solid_harmonics=True),
    "scalar bias": _config(l_max=1, irreps_hidden="4x0e+2x0o+4x1o", scalar_bias=True, num_layers=3),
    "cutoffs of pairs": _config(
        l_max=1,
        irreps_hidden="4x0e+4x1o",
        pair_cutoffs={"H": {"H": 2.5, "O": 2.0}, "Si": {"O": 3.0}},
        neighbors_per_species={"H": 4.0, "C": 9.0, "O": 2.0, "Si": 16.0},
        first_self_connection=False,
    ),
    "irreps of each layer": _config(
        {"readout_hidden": (6,)}, l_max=2, irreps_hidden=_THREE_LAYERS, num_layers=3, num_embedding=7
    ),
    "zbl": _config({"zbl": True, "zbl_inner": 0.8, "zbl_outer": 2.0}, l_max=1, irreps_hidden="4x0e+4x1o"),
    "zbl under an envelope, cutoffs of pairs": _config(
        {"zbl": True, "zbl_envelope_p": 4.0},
        l_max=1,
        irreps_hidden="4x0e+4x1o",
        pair_cutoffs={"H": {"H": 2.5, "O": 2.0}, "O": {"H": 2.5}},
    ),
    "fixed radial basis": _config(
        {"readout_hidden": (6, 3)},
        l_max=1,
        irreps_hidden="4x0e+4x1o",
        num_radial=1,
        radial_hidden=(),
        trainable_radial=False,
        polynomial_p=2.0,
        num_layers=1,
    ),
    "gvp, vectors out": _gvp({"readout_hidden": (5,)}, vectors_out=3, edge_vectors=2, message_depth=2),
    "gvp, one layer, fixed radial basis": _gvp(
        num_layers=1, message_depth=1, trainable_radial=False, polynomial_p=2.0, smoothing=0.3
    ),
    "gvp, zbl under an envelope": _gvp({"zbl": True, "zbl_envelope_p": 4.0}, num_vectors=1),
}

COMPILED = ", compiled"
# Everything that evaluates the cases: as modules with autograd, and as compiled code, which knows NequIP.
EVALUATED: dict[str, PotentialConfig] = CASES | {
    name + COMPILED: config for name, config in CASES.items() if isinstance(config.architecture, NequIPConfig)
}

WITH_INVERSION = [name for name, config in EVALUATED.items() if getattr(config.architecture, "parity", True)]
WITH_XPLOR = [name for name, c in EVALUATED.items() if getattr(c.architecture, "cutoff_function", "") == "xplor"]
PERIODIC = [name for name, make in TEST_SYSTEMS.items() if make().pbc.any()]
WITH_EDGES = [name for name in TEST_SYSTEMS if name not in ("atom", "edgeless")]


@cache
def potential(case: str) -> Potential | FrozenPotential:
    """The potential of a case; tests share it and must not change it."""
    if case.endswith(COMPILED):
        return FrozenPotential(potential(case.removesuffix(COMPILED)))
    torch.manual_seed(20)
    made = Potential(CASES[case])
    basis = made.network.basis
    if basis.wave_numbers.requires_grad:  # a basis that is fitted does not vanish at the cutoff by itself
        basis.wave_numbers.data *= torch.linspace(0.95, 1.08, len(basis.wave_numbers), dtype=torch.float64)
    for name, parameter in made.named_parameters():
        if name.endswith("bias") or ".b_" in name:
            parameter.data += torch.linspace(-0.3, 0.4, len(parameter), dtype=torch.float64)  # they start at zero
    made.scaling.set(scale=[0.7, 1.1, 1.3, 0.9], shift=[-0.5, 0.3, -0.1, 0.2])
    return made.requires_grad_(False)


@cache
def system(name: str) -> Atoms:
    """A test system; tests share it and must not change it."""
    return TEST_SYSTEMS[name]()


def ask(model: Potential | FrozenPotential, atoms: Atoms) -> Prediction:
    """Everything a potential says of a structure."""
    return model(atoms_to_graph(atoms, model.cutoff), stress=atoms.cell.rank == 3)


@cache
def prediction(case: str, name: str) -> Prediction:
    """What the potential of a case says of a test system."""
    return ask(potential(case), system(name))


def relative(found, expected, floor: float = 1e-3) -> float:
    """Largest difference relative to the largest expected value (which counts as ``floor`` if it is smaller)."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max(initial=0.0) / max(floor, np.abs(expected).max(initial=0.0)))


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A proper rotation, uniformly distributed."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)
