"""Count the arithmetic of one step of a compiled model and compare its rate with that of a matrix product.

python tests/benchmarks/roofline.py sevennet-0 si512 [--threads 2]
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ase import units
from ase.md.verlet import VelocityVerlet

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from systems import system

from ase_equivariant import EquivariantCalculator, load_model
from ase_equivariant.graph.convert import atoms_to_graph
from ase_equivariant.io.registry import resolve
from ase_equivariant.irreps import clebsch_gordan
from ase_equivariant.potential.frozen import FrozenPotential


def convolution_flops(plan) -> int:  # of an edge, forward and backward, channel by channel as csrc/table_conv.h does it
    total = 0
    for path in plan.paths:
        l1, l2, l3 = path.source.l, path.harmonic.l, path.out.l
        there = clebsch_gordan(l1, l2, l3).abs() > 1e-10
        by_output, by_harmonic = int(there.any(1).sum()), int(there.any(2).sum())
        d1, d2, d3 = there.shape
        forward = 3 + by_output + d3  # weight, coupling, sum
        backward = 6 + d1 + by_harmonic * (2 if d2 > 1 else 1) + 2 * d1 + 1  # weight and slope, x and Y gradients
        total += 2 * (forward + backward) * path.source.mul
    return total


def linear_flops(module) -> int:  # of an atom, forward and backward
    matches = [] if module is None else [match for match in module.matches if match[0] is not None]
    return sum(2 * 2 * source.mul * out.mul * out.num_components for source, out in matches)


def seconds(function, at_least: float = 3.0) -> float:
    times, started = [], time.perf_counter()
    while time.perf_counter() - started < at_least or len(times) < 4:
        before = time.perf_counter()
        function()
        times.append(time.perf_counter() - before)
    return float(np.median(times[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("system")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    atoms, potential = system(args.system), load_model(resolve(args.model)).potential
    graph, layers = atoms_to_graph(atoms, potential.cutoff, dtype=torch.float64), potential.network.layers
    modules = [m for layer in layers for m in (layer.convolution.linear_in, layer.convolution.linear_out)]
    modules += [layer.species_connection or layer.linear_connection for layer in layers]
    edges = graph.num_edges * sum(convolution_flops(layer.convolution.plan) for layer in layers)
    flops = edges + len(atoms) * sum(map(linear_flops, modules))
    frozen = FrozenPotential(potential, torch.float32)
    kernel = seconds(lambda: frozen(graph, stress=True))
    atoms.calc = EquivariantCalculator(args.model, preset="md")
    verlet = VelocityVerlet(atoms, 0.2 * units.fs)
    step = seconds(lambda: verlet.run(1))
    matrix = torch.randn(1024, 1024)
    peak = 2 * 1024**3 / seconds(lambda: matrix @ matrix, 1.0)
    n = len(atoms)
    print(f"{n} atoms, {graph.num_edges / n:.0f} neighbours, {flops / n / 1e6:.2f} MFLOP an atom")
    print(f"of these in convolutions: {edges / flops:.0%}")
    print(f"compiled model: {kernel / n * 1e6:.1f} µs an atom, {flops / kernel / 1e9:.0f} GFLOP/s")
    print(f"of the rate of a matrix product, {peak / 1e9:.0f} GFLOP/s: {flops / kernel / peak:.0%}")
    print(f"step of MD: {step / n * 1e6:.1f} µs an atom, {1 - kernel / step:.0%} outside the compiled model")


if __name__ == "__main__":
    main()
