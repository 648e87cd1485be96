"""The systems of the benchmark. Runs in every peer's environment: ASE and numpy only."""

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

# PubChem CID 2244, idealised three-dimensional structure.
ASPIRIN = """
O 1.2333 0.5540 0.7792
O -0.6952 -2.7148 -0.7502
O 0.7958 -2.1843 0.8685
O 1.7813 0.8105 -1.4821
C -0.0857 0.6088 0.4403
C -0.7927 -0.5515 0.1244
C -0.7288 1.8464 0.4133
C -2.1426 -0.4741 -0.2184
C -2.0787 1.9238 0.0706
C -2.7855 0.7636 -0.2453
C -0.1409 -1.8536 0.1477
C 2.1094 0.6715 -0.3113
C 3.5305 0.5996 0.1635
H -0.1851 2.7545 0.6593
H -2.7247 -1.3605 -0.4564
H -2.5797 2.8872 0.0506
H -3.8374 0.8238 -0.5090
H 3.7290 1.4184 0.8593
H 4.2045 0.6969 -0.6924
H 3.7105 -0.3659 0.6426
H -0.2555 -3.5916 -0.7337
"""


def water(rng, count=64):
    """Water at 1 g/cm³: molecules on a grid, turned at random."""
    length, per_side = (count * 18.01528 / 6.02214076e23 * 1e24) ** (1 / 3), round(count ** (1 / 3))
    box = Atoms(cell=[length] * 3, pbc=True)
    for cell in np.ndindex(per_side, per_side, per_side):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COM")
        one.translate((np.array(cell) + 0.5) * length / per_side - one.get_center_of_mass())
        box += one
    return box


def system(name):
    """Atoms of a system by name, rattled by 0.03 Å: ethanol, aspirin, water64, si8 … si32768, cu500."""
    rng = np.random.default_rng(0)
    if name == "ethanol":
        atoms = molecule("CH3CH2OH")
    elif name == "aspirin":
        rows = [row.split() for row in ASPIRIN.split("\n") if row]
        atoms = Atoms([row[0] for row in rows], positions=[[float(x) for x in row[1:]] for row in rows])
    elif name == "water64":
        atoms = water(rng)
    elif name.startswith("si"):
        atoms = bulk("Si", cubic=True) * ([round((int(name[2:]) / 8) ** (1 / 3))] * 3)
    elif name == "cu500":
        atoms = bulk("Cu", cubic=True) * (5, 5, 5)
    else:
        raise ValueError(f"no system called {name!r}: choose ethanol, aspirin, water64, siN or cu500")
    atoms.positions += rng.normal(0, 0.03, atoms.positions.shape)
    return atoms
