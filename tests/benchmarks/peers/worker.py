"""One calculator in an environment of its own: takes orders as lines of JSON, answers in kind.

``python worker.py KIND MODEL`` with KIND ours, sevenn, nequip or mace. An order is ``{"system": name, "steps": n}``;
the answer has the seconds of each step of velocity-Verlet MD and the peak memory so far.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
answers, sys.stdout = sys.stdout, sys.stderr  # packages that print must not disturb the answers
warnings.filterwarnings("ignore")

SPECIES = ["H", "C", "O", "Si", "Cu"]


def ours(model):
    import torch

    from ase_equivariant import EquivariantCalculator
    from ase_equivariant.potential import Potential, PotentialConfig

    if model != "nequip-32x4l2":
        return EquivariantCalculator(model, preset="md")
    torch.manual_seed(0)
    network = {
        "species": SPECIES,
        "cutoff": 5.0,
        "num_layers": 4,
        "l_max": 2,
        "irreps_hidden": "32x0e+32x1o+32x2e",
        "radial_hidden": [128],
        "avg_num_neighbors": 20.0,
    }
    potential = Potential(PotentialConfig.parse({"architecture": network}))
    potential.scaling.set(scale=[0.01] * len(SPECIES))
    return EquivariantCalculator(potential, preset="md")


def sevenn(model):
    from sevenn.calculator import SevenNetCalculator

    return SevenNetCalculator({"sevennet-0": "7net-0", "sevennet-l3i5": "7net-l3i5"}[model], device="cpu")


def nequip(model):
    import torch

    torch.set_default_dtype(torch.float64)
    from nequip.integrations.ase import NequIPCalculator

    if model.endswith(".pt2"):
        return NequIPCalculator.from_compiled_model(model, device="cpu", chemical_species_to_atom_type_map=True)
    from nequip.integrations.utils import basic_transforms
    from nequip_model import eager_model

    made = eager_model(SPECIES)
    transforms = basic_transforms(made.metadata, 5.0, SPECIES, {symbol: symbol for symbol in SPECIES})
    return NequIPCalculator(model=made, device="cpu", transforms=transforms)


def mace(model):
    import numpy as np
    import torch
    from ase.data import atomic_numbers
    from e3nn import o3
    from mace import modules
    from mace.calculators import MACECalculator

    torch.set_default_dtype(torch.float32)
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    numbers = sorted(atomic_numbers[symbol] for symbol in SPECIES)
    made = modules.ScaleShiftMACE(
        r_max=5.0, num_bessel=8, num_polynomial_cutoff=6, max_ell=3, interaction_cls=block, interaction_cls_first=block,
        num_interactions=2, num_elements=len(numbers), hidden_irreps=o3.Irreps("128x0e + 128x1o"),
        MLP_irreps=o3.Irreps("16x0e"), gate=torch.nn.functional.silu, atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=20.0, atomic_numbers=numbers, correlation=3, radial_type="bessel", radial_MLP=[64, 64, 64],
        atomic_inter_scale=0.01, atomic_inter_shift=0.0,
    )  # fmt: skip
    return MACECalculator(models=[made], device="cpu", default_dtype="float32")


def main():
    import torch
    from ase import units
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.md.verlet import VelocityVerlet
    from systems import system

    kind, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    calculator = {"ours": ours, "sevenn": sevenn, "nequip": nequip, "mace": mace}[kind](model)
    running = {}
    for line in sys.stdin:
        order = json.loads(line)
        name = order["system"]
        if name not in running:
            running.clear()
            atoms = system(name)
            atoms.calc = calculator
            MaxwellBoltzmannDistribution(atoms, temperature_K=100, rng=__import__("numpy").random.default_rng(0))
            running[name] = VelocityVerlet(atoms, 0.2 * units.fs)
            running[name].run(order.get("warm", 3))
        seconds = []
        for _ in range(order["steps"]):
            started = time.perf_counter()
            running[name].run(1)
            running[name].atoms.get_stress() if running[name].atoms.pbc.all() else None
            seconds.append(time.perf_counter() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            json.dumps({"atoms": len(running[name].atoms), "seconds": seconds, "peak_GB": peak}),
            file=answers,
            flush=True,
        )


if __name__ == "__main__":
    main()
