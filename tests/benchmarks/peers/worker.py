"""One calculator in an environment of its own: takes orders as lines of JSON, answers in kind.

``python worker.py KIND MODEL`` with KIND ours, sevenn, nequip or mace. An order is ``{"system": name, "steps": n}``;
the answer has the seconds of each step of velocity-Verlet MD and the peak memory so far. A system NAME*COUNT is
a batch, and its steps are training steps (ours and nequip's; nequip's MODEL is eager or compile then).
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
    from ase_equivariant import EquivariantCalculator

    return EquivariantCalculator(benchmark_potential() if model == "nequip-32x4l2" else model, preset="md")


def benchmark_potential():
    import torch

    from ase_equivariant.potential import Potential, PotentialConfig

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
    return potential


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
    from mace import modules
    from mace.calculators import MACECalculator

    torch.set_default_dtype(torch.float32)
    from e3nn import o3  # after mace, which makes it load its constants under a new PyTorch

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


def dynamics(name, calculator):
    """A function that takes one step of MD, and the number of atoms."""
    import numpy as np
    from ase import units
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.md.verlet import VelocityVerlet
    from systems import system

    atoms = system(name)
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=100, rng=np.random.default_rng(0))
    verlet = VelocityVerlet(atoms, 0.2 * units.fs)

    def step():
        verlet.run(1)
        if atoms.pbc.all():
            atoms.get_stress()

    return step, len(atoms)


def training(kind, model, name, count):
    """A function that takes one training step, and the number of atoms."""
    import training as steps

    if kind == "ours":
        return steps.ours(name, count, benchmark_potential())
    from nequip_model import eager_model

    return steps.nequip(name, count, eager_model(SPECIES, compile_mode=model).train(), SPECIES)


def main():
    import torch

    kind, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    calculator, current = None, None
    for line in sys.stdin:
        order = json.loads(line)
        if order["system"] != current:
            current = order["system"]
            name, _, count = current.partition("*")
            if count:
                step, atoms = training(kind, model, name, int(count))
            else:
                calculator = calculator or {"ours": ours, "sevenn": sevenn, "nequip": nequip, "mace": mace}[kind](model)
                step, atoms = dynamics(name, calculator)
            for _ in range(3):
                step()
        seconds = []
        for _ in range(order["steps"]):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"atoms": atoms, "seconds": seconds, "peak_GB": peak}), file=answers, flush=True)


if __name__ == "__main__":
    main()
