"""Relax a crystal and its cell with ASE, starting from a stretched lattice.

python scripts/relax.py --model si --fmax 0.001
"""

import argparse

from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from ase_equivariant import EquivariantCalculator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="si")
    parser.add_argument("--fmax", type=float, default=0.001, help="eV/Å")
    args = parser.parse_args()

    atoms = bulk("Si", "diamond", a=5.6, cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = EquivariantCalculator(args.model, preset="relax")

    with BFGS(FrechetCellFilter(atoms)) as optimizer:
        converged = optimizer.run(fmax=args.fmax, steps=200)

    lengths = ", ".join(f"{length:.4f}" for length in atoms.cell.lengths())
    print(
        f"converged: {converged}; lattice constants {lengths} Å; energy {atoms.get_potential_energy() / 8:.4f} eV/atom"
    )


if __name__ == "__main__":
    main()
