"""The whole network is the one that e3nn's modules make of the same formula."""

from __future__ import annotations

import pytest
import torch
from e3nn_reference import IGNORE_TORCHSCRIPT, Network, float64_default, relative

from ase_equivariant.architectures import NequIP, NequIPConfig
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.testing import TEST_SYSTEMS

pytestmark = pytest.mark.filterwarnings(IGNORE_TORCHSCRIPT)

SETTINGS = {
    "scalars": {"l_max": 0, "irreps_hidden": "5x0e"},
    "vectors": {"l_max": 1, "irreps_hidden": "4x0e+3x1o", "num_layers": 3},
    "every parity": {"l_max": 2, "irreps_hidden": "4x0e+2x0o+3x1o+2x1e+2x2e+1x2o", "num_layers": 4},
    "l=3": {"l_max": 3, "irreps_hidden": "3x0e+2x1o+2x2e+1x3o", "self_connection": "linear"},
    "l=4, no connection": {"l_max": 4, "irreps_hidden": "2x0e+1x2e+1x4e", "self_connection": "none"},
    "even only": {"l_max": 2, "irreps_hidden": "4x0e+3x1e+2x2e", "parity": False, "num_layers": 3},
    "each layer": {
        "l_max": 2,
        "irreps_hidden": ("4x0e+2x1o", "3x0e+2x0o+2x1e+2x2e", "5x0e+3x0o+2x1o"),
        "num_layers": 3,
        "num_embedding": 6,
        "polynomial_p": 4.0,
        "radial_hidden": (7, 5),
    },
}


@pytest.mark.parametrize("name", SETTINGS)
def test_network_is_that_of_e3nn(name, check):
    settings = {"num_layers": 2, "radial_hidden": (6,), "num_radial": 5, **SETTINGS[name]}
    config = NequIPConfig(species=("H", "C", "O", "Si"), cutoff=3.5, avg_num_neighbors=9.0, **settings)
    ours = NequIP(config)
    ours.basis.wave_numbers.data *= torch.linspace(0.9, 1.1, 5, dtype=torch.float64)
    with float64_default():
        theirs = Network(ours)
    for system in ("molecule", "mixed", "tiny"):
        graph = atoms_to_graph(TEST_SYSTEMS[system](), config.cutoff)
        species = torch.tensor([{1: 0, 6: 1, 8: 2, 14: 3}[int(z)] for z in graph.atomic_numbers])
        features, gradients = [], []
        for network in (ours, theirs):
            vectors = graph.edge_vectors.clone().requires_grad_()
            features.append(network(species, graph.edge_index, vectors))
            weights = torch.linspace(-1, 1, features[0].shape[1], dtype=torch.float64)
            gradients.append(torch.autograd.grad((features[-1] @ weights).sum(), vectors)[0])
        check("network = e3nn's modules: features", relative(*features), 1e-12)
        check("network = e3nn's modules: gradients", relative(*gradients), 1e-12)
