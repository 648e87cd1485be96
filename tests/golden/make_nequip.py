"""Makes the small NequIP files of the tests and what NequIP itself says of structures with them.

Run it where nequip 0.19 is installed: ``python tests/golden/make_nequip.py FOLDER``. Every model is trained for two
epochs by ``nequip-train`` on a handful of EMT structures, so that the checkpoints are what users have; two of them
are packaged by ``nequip-package``. The reference values come from `NequIPCalculator` in float64: a float32 model
is rebuilt in float64 with the checkpoint's weights.

The packages lose the Python sources that nequip copies into them: they are other people's code, and nothing reads them.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.io import write
from nequip.integrations.ase import NequIPCalculator
from nequip.integrations.utils import basic_transforms
from nequip.model import saved_models
from nequip.utils.global_state import set_global_state

TYPES = ["H", "O", "Cu"]
# Every model the tests have, by what is special about it; the rest of the keys are nequip's defaults.
MODELS = {
    "nequip_tiny": {
        "model_dtype": "float64",
        "num_layers": 2,
        "l_max": 1,
        "parity": False,
        "num_features": 3,
        "radial_mlp_width": 6,
        "num_bessels": 5,
        "avg_num_neighbors": 11.5,
    },
    "nequip_tiny_parity_ema": {
        "model_dtype": "float64",
        "num_layers": 4,  # odd scalars first come out of the third
        "l_max": 2,
        "parity": True,
        "num_features": [3, 2, 1],
        "type_embed_num_features": 4,
        "radial_mlp_depth": 2,
        "radial_mlp_width": 5,
        "num_bessels": 4,
        "bessel_trainable": True,
        "polynomial_cutoff_p": 5,
        "avg_num_neighbors": 9.0,
        "per_type_energy_scales": {"H": 0.7, "O": 1.3, "Cu": 0.9},
        "per_type_energy_shifts": {"H": -1.5, "O": 0.25, "Cu": -3.5},
        "per_type_energy_scales_trainable": True,
        "per_type_energy_shifts_trainable": True,
    },
    "nequip_tiny_pairs_zbl": {
        "model_dtype": "float32",
        "num_layers": 3,
        "l_max": 3,
        "parity": False,
        "num_features": [3, 2, 2, 1],
        "radial_mlp_depth": 1,
        "radial_mlp_width": 6,
        "num_bessels": 5,
        "readout_mlp_hidden_layers_depth": 1,
        "readout_mlp_hidden_layers_width": 4,
        "avg_num_neighbors": {"H": 5.0, "O": 8.0, "Cu": 15.0},
        "per_edge_type_cutoff": {"H": 2.5, "O": {"H": 2.75, "O": 3.0}, "Cu": {"H": 3.1}},
        "per_type_energy_scales": 0.8,
        "per_type_energy_shifts": -2.0,
        "pair_potential": {
            "_target_": "nequip.nn.pair_potential.ZBL",
            "units": "metal",
            "chemical_species": TYPES,
            "polynomial_cutoff_p": 4,
        },
    },
}
R_MAX = 4.0
EMA = {"nequip_tiny_parity_ema", "nequip_tiny_pairs_zbl"}
PACKAGED = {"nequip_tiny_parity_ema", "nequip_tiny_pairs_zbl"}


def structures() -> dict[str, Atoms]:
    """Molecules, bulk, a slab, strained cells, a cluster, an isolated atom and a close contact."""
    rng = np.random.default_rng(5)
    copper = bulk("Cu", cubic=True)
    copper.symbols[1] = "O"
    copper.rattle(0.1, seed=1)
    strained = bulk("Cu", cubic=True) * (2, 1, 1)
    strained.symbols[:3] = "HOO"
    strained.set_cell(strained.cell @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
    strained.rattle(0.15, seed=2)
    slab = fcc111("Cu", (2, 2, 2), vacuum=6.0)
    slab += Atoms("OH", slab.positions[-1] + [[0.2, 0.1, 1.3], [0.3, 0.8, 1.9]])
    slab.rattle(0.05, seed=3)
    cluster = Atoms("Cu2O2H3", rng.uniform(0, 4.5, (7, 3)))
    primitive = bulk("Cu")  # neighbours are images of the atom itself
    close = Atoms("OCuH", [[0, 0, 0], [0.9, 0.2, 0], [0.3, 0.6, 0.4]])
    water = molecule("H2O")
    water.rattle(0.05, seed=4)
    return {
        "water": water,
        "bulk": copper,
        "strained": strained,
        "slab": slab,
        "cluster": cluster,
        "primitive": primitive,
        "close": close,
        "atom": Atoms("O"),
        "far apart": Atoms("CuO", [[0, 0, 0], [9, 0, 0]]),
    }


def training_data(path: Path) -> None:
    frames = []
    for seed, name in enumerate(["bulk", "strained", "slab", "bulk"]):
        atoms = structures()[name]
        atoms.rattle(0.05, seed=20 + seed)
        atoms.pbc, atoms.calc = True, EMT()
        atoms.get_potential_energy(), atoms.get_forces()
        frames.append(atoms)
    write(path, frames)


def config(name: str, data: Path) -> dict:
    """What `nequip-train` is told."""
    builder = {"_target_": "nequip.model.NequIPGNNModel", "seed": 3, "type_names": TYPES, "r_max": R_MAX}
    module = {
        "_target_": f"nequip.train.{'EMA' if name in EMA else 'NequIP'}LightningModule",
        "loss": {"_target_": "nequip.train.EnergyForceLoss", "per_atom_energy": True},
        "val_metrics": {
            "_target_": "nequip.train.EnergyForceMetrics",
            "coeffs": {"total_energy_mae": 1.0, "forces_mae": 1.0},
        },
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1e-3},
        "model": builder | MODELS[name],
    }
    if name in EMA:
        module["ema_decay"] = 0.5
    return {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 4,
            "split_dataset": {"file_path": str(data), "train": 3, "val": 1},
            "transforms": [
                {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": TYPES},
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": R_MAX},
            ],
            "train_dataloader": {"_target_": "torch.utils.data.DataLoader", "batch_size": 1},
            "val_dataloader": {"_target_": "torch.utils.data.DataLoader", "batch_size": 1},
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_epochs": 2,
            "enable_progress_bar": False,
            "logger": False,
            "callbacks": [
                {
                    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "dirpath": str(data.parent / name),
                    "save_last": True,
                    "save_top_k": 0,
                }
            ],
        },
        "training_module": module,
    }


def train(name: str, folder: Path, work: Path) -> Path:
    (work / "configs").mkdir(exist_ok=True)
    (work / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(config(name, work / "data.xyz"), sort_keys=False))
    arguments = ["-cp", str(work / "configs"), "-cn", name, f"hydra.run.dir={work / 'hydra' / name}"]
    subprocess.run([Path(sys.executable).with_name("nequip-train"), *arguments], check=True, cwd=work)
    target = folder / f"{name}.ckpt"
    target.write_bytes((work / name / "last.ckpt").read_bytes())
    return target


def package(checkpoint: Path, folder: Path, work: Path) -> Path:
    """Package a checkpoint and leave out the Python sources."""
    whole, target = work / f"{checkpoint.stem}.nequip.zip", folder / f"{checkpoint.stem}.nequip.zip"
    whole.unlink(missing_ok=True)
    command = [Path(sys.executable).with_name("nequip-package"), "build", checkpoint, whole]
    subprocess.run(command, check=True, cwd=work, env=os.environ)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as kept:
        for entry in source.infolist():
            if not entry.filename.endswith(".py"):
                kept.writestr(entry.filename, source.read(entry))
    return target


def calculator(checkpoint: Path) -> NequIPCalculator:
    """NequIP's own calculator in float64, with the weights that it evaluates a checkpoint with."""
    set_global_state(allow_tf32=False)
    evaluated = saved_models.load_saved_model(checkpoint).state_dict()
    content = torch.load(checkpoint, weights_only=False)
    settings = dict(content["hyper_parameters"]["model"], model_dtype="float64")
    from hydra.utils import get_method

    model = get_method(settings.pop("_target_"))(**settings)
    # The Clebsch-Gordan coefficients among the buffers are made afresh, in float64.
    weights = {key: value for key, value in evaluated.items() if "_w3j_" not in key}
    missing = model.load_state_dict({k: v.double() for k, v in weights.items()}, strict=False)
    assert not missing.unexpected_keys
    assert all("_w3j_" in key for key in missing.missing_keys)
    metadata = model.metadata
    transforms = basic_transforms(metadata, float(metadata["r_max"]), TYPES, {name: name for name in TYPES})
    return NequIPCalculator(model=model.eval(), device="cpu", transforms=transforms)


def answers(calc: NequIPCalculator) -> dict:
    result = {}
    for name, atoms in structures().items():
        atoms = atoms.copy()
        atoms.calc = calc
        result[name] = {"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces().tolist()}
        if atoms.cell.rank == 3:
            result[name]["stress"] = atoms.get_stress().tolist()
    return result


def main(folder: Path) -> None:
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    training_data(work / "data.xyz")
    models = {}
    for name in MODELS:
        checkpoint = train(name, folder, work)
        if name in PACKAGED:
            package(checkpoint, folder, work)
        models[name] = answers(calculator(checkpoint))
    inputs = {
        name: {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.tolist(),
            "pbc": atoms.pbc.tolist(),
        }
        for name, atoms in structures().items()
    }
    golden = {"command": "python tests/golden/make_nequip.py FOLDER", "structures": inputs, "models": models}
    (folder / "nequip_tiny.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
