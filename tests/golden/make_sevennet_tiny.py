"""Checkpoints of small SevenNet models with random weights, one for each choice, and what SevenNet says with them.

Run where ``sevenn`` is installed: ``python tests/golden/make_sevennet_tiny.py tests/golden``
"""

import json
import sys
from pathlib import Path

import numpy as np
import sevenn
import torch
from ase.build import bulk, molecule
from make_sevennet import in_double
from sevenn._const import model_defaults
from sevenn.model_build import build_E3_equivariant_model
from sevenn.parse_input import read_config_yaml  # noqa: F401 - fails early where sevenn is incomplete

TYPES = {1: 0, 6: 1, 8: 2, 14: 3}
BASE = {
    "version": sevenn.__version__,
    "_model_type": "E3_equivariant_model",
    "chemical_species": ["H", "C", "O", "Si"],
    "_number_of_species": 4,
    "_type_map": TYPES,
    "cutoff": 4.0,
    "channel": 4,
    "lmax": 1,
    "num_convolution_layer": 2,
    "weight_nn_hidden_neurons": [6],
    "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 5},
    "cutoff_function": {"cutoff_function_name": "poly_cut", "poly_cut_p_value": 6},
    "conv_denominator": 3.7,
    "is_parity": False,
    "self_connection_type": "nequip",
    "shift": [-1.0, -2.0, 3.0, 0.5],
    "scale": [0.7, 1.1, 1.3, 0.9],
}
MODALITIES = {
    "use_modality": True,
    "_modal_map": {"pbe": 0, "scan": 1},
    "_number_of_modalities": 2,
    **{
        f"use_modal_{name}": True for name in ("node_embedding", "self_inter_intro", "self_inter_outro", "output_block")
    },
    "use_modal_wise_shift": True,
    "use_modal_wise_scale": False,
    "shift": [[-1.0, -2.0, 3.0, 0.5], [0.2, 0.4, -0.6, 0.8]],
}
VARIANTS = {
    "species": {},
    "parity": {"is_parity": True, "lmax": 2, "num_convolution_layer": 3, "channel": 3},
    "linear": {
        "self_connection_type": "linear",
        "lmax": 3,
        "irreps_manual": ["6x0e", "6x0e+2x3e+3x1e", "5x0e"],
        "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 3.0},
    },
    "modal": {"self_connection_type": "linear", **MODALITIES},
    "bias": {"self_connection_type": "linear", "use_bias_in_linear": True, "train_denominator": True},
    "solid": {"_normalize_sph": False, "lmax": 2},
    "perceptron": {"readout_as_fcn": True, "readout_fcn_hidden_neurons": [5], "readout_fcn_activation": "silu"},
    "mixed": {"self_connection_type": ["nequip", "linear", "nequip"], "num_convolution_layer": 3},
    # No path leads to 2x1e, nor 3x0o, which the second layer takes all the same; the wave numbers are constants.
    "unreached": {
        "is_parity": True,
        "num_convolution_layer": 3,
        "irreps_manual": ["4x0e", "3x0o+4x0e+2x1e+2x1o", "4x0e+2x1o+3x1e", "4x0e"],
        "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 5, "trainable_coeff": False},
    },
}


def structures():
    ethanol = molecule("CH3CH2OH")
    quartz = bulk("SiO", "rocksalt", a=4.3, cubic=True)
    quartz.set_cell(quartz.cell.array @ [[1.02, 0.03, 0], [0, 0.97, 0.01], [0.02, 0, 1]], scale_atoms=True)
    for atoms in (ethanol, quartz):
        atoms.rattle(0.08, seed=3)
    return {"ethanol": ethanol, "crystal": quartz, "atom": molecule("O")}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    answers = {}
    frames = structures()
    for seed, (name, changes) in enumerate(VARIANTS.items()):
        torch.manual_seed(seed)
        config = {**model_defaults(BASE), **BASE, **changes}
        model = build_E3_equivariant_model(config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key.endswith("linear.bias"):
                    parameter += torch.randn_like(parameter)
        path = folder / f"sevennet_tiny_{name}.pth"
        torch.save({"model_state_dict": model.state_dict(), "config": config, "epoch": 0}, path)
        for modal in config.get("_modal_map", {None: 0}) if config.get("use_modality") else [None]:
            calculator = in_double(str(path), modal)
            answers[f"{path.name}:{modal}" if modal else path.name] = {
                key: {
                    "energy": calculator.get_potential_energy(atoms),
                    "forces": calculator.get_forces(atoms).tolist(),
                    **({"stress": calculator.get_stress(atoms).tolist()} if atoms.pbc.all() else {}),
                }
                for key, atoms in frames.items()
            }
    described = {
        key: {
            "numbers": a.numbers.tolist(),
            "positions": a.positions.tolist(),
            "cell": a.cell.tolist(),
            "pbc": a.pbc.tolist(),
        }
        for key, a in frames.items()
    }
    text = {"made_with": f"sevenn {sevenn.__version__}", "structures": described, "answers": answers}
    (folder / "sevennet_tiny.json").write_text(json.dumps(text) + "\n")
    for key, value in answers.items():
        print(key, {name: float(np.abs(v["forces"]).max()) for name, v in value.items()})
