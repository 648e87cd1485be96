"""Langevin dynamics of ethanol with ASE: the shortest useful program.

python scripts/langevin_md.py --steps 2000 --temperature 300
"""

import argparse

import numpy as np
from ase import units
from ase.build import molecule
from ase.io import Trajectory
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, thermalize_momenta

from ase_equivariant import EquivariantCalculator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ethanol")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--trajectory", default="ethanol.traj")
    args = parser.parse_args()

    atoms = molecule("CH3CH2OH")
    atoms.calc = EquivariantCalculator(args.model, preset="md")

    rng = np.random.default_rng(0)
    thermalize_momenta(atoms, temperature_K=args.temperature, rng=rng)
    Stationary(atoms)
    thermostat = {"temperature_K": args.temperature, "friction": 0.01 / units.fs, "rng": rng, "fixcm": False}
    dynamics = Langevin(atoms, 0.5 * units.fs, **thermostat)

    def report() -> None:
        energy, temperature = atoms.get_potential_energy(), atoms.get_temperature()
        print(f"step {dynamics.nsteps:6d}   potential energy {energy:12.4f} eV   temperature {temperature:6.1f} K")

    with Trajectory(args.trajectory, "w", atoms) as trajectory:
        dynamics.attach(report, interval=100)
        dynamics.attach(trajectory.write, interval=20)
        dynamics.run(args.steps)
    print(f"wrote {args.trajectory}")


if __name__ == "__main__":
    main()
