"""Errors of the installed universal models on labelled structures, into models/universal.json (resumable).

python scripts/evaluate_universal.py mptrj-random-1k.xyz
"""

import json
import sys
import time
from pathlib import Path

import torch
from ase.units import GPa

from ase_equivariant import load_model
from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.io.cache import cached_model
from ase_equivariant.io.catalog import CATALOG
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.readers import read_frames


def rows(results: dict, published: dict) -> str:
    """Of the results page."""
    lines = []
    for name, found in results.items():
        cells = [found["energy_per_atom MAE (meV/atom)"], found["forces MAE (meV/Å)"]]
        stress, errors = found["stress MAE (meV/Å³)"] / 1000 / GPa, published.get(name, {}).get("errors", "–")
        lines.append(f"| {name} | {cells[0]:.1f} | {cells[1]:.1f} | {stress:.2f} | {errors} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    data = Path(sys.argv[1])
    output = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent.parent / "models" / "universal.json")
    frames = read_frames(data)
    results = json.loads(output.read_text()) if output.exists() else {}
    for model in CATALOG.values():
        for modal in model.modalities or (None,):
            path = cached_model(model.name, modal)
            name = f"{model.name} ({modal})" if modal else model.name
            if name in results or not path.is_file():
                print(f"{name}: {'known already' if name in results else 'not installed'}")
                continue
            started = time.perf_counter()
            found = evaluate(FrozenPotential(load_model(path).potential, torch.float32), frames, batch_size=4)
            errors = {key: value for key, value in found.errors().items() if not key.startswith("forces_")}
            results[name] = {"data": data.name, "structures": found.num_structures, "atoms": found.num_atoms, **errors}
            results[name]["seconds"] = round(time.perf_counter() - started, 1)
            with atomic_path(output) as temporary:
                temporary.write_text(json.dumps(results, indent=1) + "\n")
            print(name, {key: round(value, 2) for key, value in errors.items() if "MAE" in key})


if __name__ == "__main__":
    main()
