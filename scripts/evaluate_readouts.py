"""Errors of models on their test structures, by composition, beside the spread of the labels.

python scripts/evaluate_readouts.py water-tensors small-molecules    # writes models/NAME-readouts.json
"""

import json
import sys
import tomllib
from pathlib import Path

from ase_equivariant import load_model
from ase_equivariant.io.results import write_json
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.evaluate import evaluate, unit
from ase_equivariant.training.splits import make_splits

MODELS = Path(__file__).parent.parent / "models"
MOST = 5  # compositions; of data with more of them, errors are of all structures together


def errors(name: str) -> dict:
    config = TrainConfig.model_validate(tomllib.loads((MODELS / f"configs/{name}.toml").read_text("utf-8")))
    shipped, trained = MODELS / f"{name}.safetensors", config.folder / f"{name}.safetensors"
    if not (file := shipped if shipped.exists() else trained).exists():
        sys.exit(f"error: no model at {file}: ase-equivariant train {MODELS}/configs/{name}.toml makes it")
    potential, test = load_model(file).potential, make_splits(config.data).test
    groups = {}
    for frame in test:
        groups.setdefault(frame.atoms.get_chemical_formula(), []).append(frame)
    found = {}
    for group, frames in (groups if len(groups) <= MOST else {"molecules": test}).items():
        compared = {
            k: c for k, c in evaluate(potential, frames).comparisons.items() if not k.startswith(("forces_", "energy_"))
        }
        values = {
            f"{k} ({unit(k)})": {"MAE": 1e3 * c.mae, "RMSE": 1e3 * c.rmse, "spread": 1e3 * c.spread}
            for k, c in compared.items()
        }
        found[f"{len(frames)} {group}"] = values
    return found


def table(files: list[Path]) -> str:
    rows = ["| model | test structures | quantity | RMSE | standard deviation | RMSE, % of it |", f"|{'---|' * 6}"]
    for path in files:
        for group, found in json.loads(path.read_text("utf-8")).items():
            for quantity, of in found.items():
                share = f"{100 * of['RMSE'] / of['spread']:.2f}"
                cells = [path.stem.removesuffix("-readouts"), group, quantity]
                cells += [f"{of['RMSE']:.3g}", f"{of['spread']:.3g}", share]
                rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_json(MODELS / f"{name}-readouts.json", errors(name))
        print(table([MODELS / f"{name}-readouts.json"]))
