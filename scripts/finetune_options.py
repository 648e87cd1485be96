"""What frozen parts and replay do to fine-tuning: forces MAE on the new data and on what the model knew (resumable).

python scripts/finetune_options.py CONFIG.toml KNOWN.xyz FOLDER    # models/configs/srtio3-finetune.toml, MPtrj
"""

import json
import sys
import time
import tomllib
from pathlib import Path

from ase.io import write

from ase_equivariant import load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.plotting.figure import new_figure, save_figure
from ase_equivariant.potential.frozen import FrozenPotential
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.evaluate import evaluate
from ase_equivariant.training.readers import read_frames
from ase_equivariant.training.run import train
from ase_equivariant.training.splits import make_splits

FROZEN = {"all trained": "", "radial frozen": "radial", "layers 0 to 2 frozen": "embedding layers.0 layers.1 layers.2"}


def run(values: dict, name: str, folder: Path) -> Path:
    again = {"files": str(folder / "again.xyz"), "labelled_by": "init", "fraction": 7 / 8} if name == "replay" else None
    finetune = {"freeze": FROZEN.get(name, "").split(), "replay": again}
    # As many new structures make a step as without replay.
    run = {"folder": str(folder / name), "batch_size": values["run"]["batch_size"] * (8 if again else 1)}
    values = values | {"run": values["run"] | run, "finetune": finetune}
    return train(TrainConfig.parse(values), quiet=True, restart_from_scratch=True).model_file


def main() -> None:
    values, known, folder = tomllib.loads(Path(sys.argv[1]).read_text("utf-8")), sys.argv[2], Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    old, tests = read_frames(known), make_splits(TrainConfig.parse(values).data).test
    write(folder / "again.xyz", [f.atoms for f in old[::2] if len(f.atoms) <= 20])  # the other half is held out
    results = json.loads(file.read_text()) if (file := folder / "options.json").exists() else {}
    ax = (figure := new_figure()).subplots()
    for name in ("before", *FROZEN, "replay"):
        if name not in results:
            start = time.process_time()
            path = resolve(values["init"]) if name == "before" else run(values, name, folder)
            results[name] = {"CPU minutes": (time.process_time() - start) / 60}
            potential = FrozenPotential(load_model(path).potential)
            for part, frames in {"new": tests, "known": old[1::2]}.items():
                results[name][part] = evaluate(potential, frames, 4).errors()["forces MAE (meV/Å)"]
            file.write_text(json.dumps(results, indent=1) + "\n")
        print(name, results[name], flush=True)
        ax.loglog(results[name]["new"], results[name]["known"], "o", label=name)
    ax.set(xlabel="new: test forces MAE (meV/Å)", ylabel="known: held-out forces MAE (meV/Å)")
    ax.legend()
    save_figure(figure, folder / "options.png")


if __name__ == "__main__":
    main()
