"""Energy and forces of a crystal from an AOTInductor package of a model and from the compiled network, in turns.

python scripts/aotinductor.py si 8      # model, repetitions of the cubic cell of silicon; one thread
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from ase.build import bulk
from torch.fx.experimental.proxy_tensor import make_fx

from ase_equivariant.architectures import nequip
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.open_model import open_model
from ase_equivariant.kernels.dispatch import use_backend
from ase_equivariant.potential.frozen import FrozenPotential


def package(potential, graph, folder):
    """What `torch.export` and AOTInductor make of energy and its gradient by edge vectors, for this very graph."""

    def energy_and_gradient(vectors, edge_index, species):
        vectors = vectors.clone().requires_grad_(True)
        energy = potential.atomic_energies(species, edge_index, vectors).sum()
        return energy.detach(), torch.autograd.grad(energy, vectors)[0]

    inputs = (graph.edge_vectors, graph.edge_index, potential.species_indices(graph.atomic_numbers))
    # One species, so that nothing depends on data; operations of PyTorch, which Inductor knows.
    nequip.group_by_species = lambda species: [(0, torch.arange(species.shape[0]))]
    with use_backend("reference"):
        traced = make_fx(energy_and_gradient, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs)
    program = torch.export.export(traced, inputs, strict=False)
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / "model.pt2"))
    return torch._inductor.aoti_load_package(path), inputs


def main():
    torch.set_num_threads(1)
    atoms = bulk("Si", cubic=True).repeat(int(sys.argv[2]))
    atoms.rattle(0.05, seed=1)
    exact = open_model(sys.argv[1])[0].double().requires_grad_(False)
    compiled, graph = FrozenPotential(exact, torch.float32), atoms_to_graph(atoms, exact.cutoff)
    with tempfile.TemporaryDirectory() as folder:
        model, inputs = package(exact.float(), graph.to("cpu", torch.float32), folder)
    times = {"AOTInductor": [], "compiled network": []}
    for _ in range(7):
        for name, call in (("AOTInductor", lambda: model(*inputs)), ("compiled network", lambda: compiled(graph))):
            start = time.perf_counter()
            found = call()
            times[name].append(time.perf_counter() - start)
            print(name, f"{float(found[0] if name == 'AOTInductor' else found['energy']):.4f} eV", flush=True)
    a, b = (median(times[name]) for name in ("AOTInductor", "compiled network"))
    print(f"{len(atoms)} atoms, {graph.num_edges} edges: {1e3 * a:.0f} and {1e3 * b:.0f} ms, {a / b:.1f} times")


main()
