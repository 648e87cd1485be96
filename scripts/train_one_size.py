"""One run of ``data_efficiency.py``: as many steps for any number of frames; a twentieth more choose the weights."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from ase import build
from ase.io import write
from not_equivariant import train_directional

from ase_equivariant import EquivariantCalculator, load_model
from ase_equivariant.irreps import random_rotation
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.readers import read_frames
from ase_equivariant.training.run import train

KINDS = ("forces MAE (meV/Å)", "forces RMSE (meV/Å)")
SMALL = {"molecules": ["small"], "sizes": [5, 20], "seeds": [0], "steps": 10, "warmup_steps": 1}


def configuration(plan: dict, network: dict, molecule: str, size: int, seed: int, folder: Path) -> TrainConfig:
    values = json.loads(json.dumps(plan["run"]).replace("{molecule}", molecule))
    per_epoch = -(-size // values["run"]["batch_size"])
    epochs = max(1, round(plan["grid"]["steps"] / per_epoch))
    values["model"]["architecture"] |= network["architecture"]
    values["data"] |= {"num_train": size, "validation": max(5, size // 19), "split_seed": seed}
    values["schedule"]["warmup_epochs"] = plan["grid"]["warmup_steps"] / per_epoch
    values["run"] |= {"folder": str(folder), "seed": seed, "max_epochs": epochs, "validate_every": -(-epochs // 50)}
    return TrainConfig.parse(values)


def run_one(config: TrainConfig, turned: bool | None) -> dict[str, float]:  # turned or not: a directional network
    test = read_frames(config.data.test)
    config = config.model_copy(update={"data": config.data.model_copy(update={"test": None})})
    if turned is None:
        stopped = train(config, quiet=True).stopped
        potential = None if stopped else load_model(config.folder / "model.safetensors").potential
    else:
        potential, stopped = train_directional(config, turned)
    if stopped:
        sys.exit(f"{stopped}: the same command continues")
    torch.manual_seed(0)
    turned_test = [frame.rotated(random_rotation().numpy()) for frame in test]
    found = {"": evaluate(potential, test).errors(), "turned ": evaluate(potential, turned_test).errors()}
    return {f"{which}{kind}": errors[kind] for which, errors in found.items() for kind in KINDS}


def small_form(plan: dict, folder: Path) -> dict:  # a few steps on frames labelled by the shipped model of ethanol
    rng, atoms = np.random.default_rng(0), build.molecule("CH3CH2OH")
    data, start = {kind: str(folder / f"{kind}.xyz") for kind in ("train", "test")}, atoms.positions.copy()
    atoms.calc = EquivariantCalculator("ethanol")
    for path in [data["train"]] * 30 + [data["test"]] * 10:
        atoms.positions = start + rng.normal(scale=0.05, size=start.shape)
        atoms.get_forces()
        write(path, atoms, append=True)
    return plan | {"grid": SMALL, "networks": plan["networks"][::2], "run": plan["run"] | {"data": data}}
