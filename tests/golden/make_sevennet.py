"""Energies, forces and stress of SevenNet's own calculator in float64; run it where ``sevenn`` is installed.

``python tests/golden/make_sevennet.py CHECKPOINT OUTPUT.npz [MODAL]``
"""

import sys
from pathlib import Path

import numpy as np
import sevenn
import torch
from ase.io import read
from e3nn.o3 import wigner_3j
from sevenn.calculator import SevenNetCalculator
from sevenn.nn.node_embedding import OnehotEmbedding


def one_hot(self, data):
    """As the original, which rounds to float32 whatever the model's type."""
    given = data[self.key_x]
    embedded = torch.nn.functional.one_hot(given, self.num_classes).to(torch.float64)
    data[self.key_output] = embedded
    if self.key_additional_output is not None:
        data[self.key_additional_output] = embedded
    if self.key_save is not None:
        data[self.key_save] = given
    return data


def to_double(model):
    """In float64, with coupling coefficients that are not rounded: they are constants, kept in float32 buffers."""
    model.double()
    for name, buffer in model.named_buffers():
        if "._w3j_" in name:
            exact = wigner_3j(*map(int, name.rsplit("_", 3)[1:]), dtype=torch.float64)
            buffer.copy_(exact * torch.sign((exact * buffer).sum()))


def in_double(checkpoint, modal=None, rounded=False):
    """SevenNet's calculator with everything in float64; ``rounded`` leaves float32's error in the constants."""
    OnehotEmbedding.forward = one_hot
    sevenn.util.dtype_correct.__defaults__ = (torch.float64, torch.int64)  # of edge vectors
    calculator = SevenNetCalculator(checkpoint, device="cpu", modal=modal)
    if rounded:
        calculator.model.double()
    else:
        to_double(calculator.model)
    return calculator


if __name__ == "__main__":
    checkpoint, output = sys.argv[1:3]
    options = [option for option in sys.argv[3:] if option != "--rounded"]
    calculator = in_double(checkpoint, options[0] if options else None, "--rounded" in sys.argv)
    frames = read(Path(__file__).with_name("structures.extxyz"), ":")
    energy, forces, stress = [], [], []
    for atoms in frames:
        atoms.calc = calculator
        energy.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
        stress.append(atoms.get_stress() if atoms.cell.rank == 3 and atoms.pbc.all() else np.full(6, np.nan))
    made_with = f"sevenn {sevenn.__version__}"
    np.savez_compressed(output, energy=energy, forces=np.concatenate(forces), stress=stress, made_with=made_with)
    print(f"{output}: {len(frames)} structures, largest force {max(np.abs(f).max() for f in forces):.3g} eV/Å")
