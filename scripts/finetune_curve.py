"""Fine-tuning against training from scratch: errors on test structures by number of training structures (resumable).

python scripts/finetune_curve.py DATA.xyz INIT CONFIG.toml FOLDER    # CONFIG has the network from scratch
"""

import argparse
import json
import tomllib
from pathlib import Path

from ase_equivariant.plotting.figure import new_figure, save_figure
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.run import train

KINDS = {"tuned": "fine-tuned", "scratch": "from scratch", "patient": "from scratch, more steps"}  # by --patience


def run(options: argparse.Namespace, kind: str, size: int) -> dict[str, float]:
    # As many steps for each size; a tenth more structures validate, the test structures choose nothing.
    values = tomllib.loads(options.config.read_text(encoding="utf-8"))
    batch = min(values["run"]["batch_size"], max(2, size // 5))
    epochs = max(1, round(options.steps * (options.patience if kind == "patient" else 1) * batch / size))
    values["data"] |= {"train": options.data, "num_train": size, "validation": max(5, size // 10)}
    values["run"] |= {"batch_size": batch, "max_epochs": epochs, "validate_every": max(1, epochs // 60)}
    values["run"]["folder"] = str(options.folder / f"{kind}-{size}")
    if kind == "tuned":  # and gentler than from random weights
        values = {k: v for k, v in values.items() if k != "model"} | {"init": options.init}
        values["optimizer"]["lr"] = options.lr
    errors = train(TrainConfig.parse(values), quiet=True).evaluations["test"].errors()
    return {name: value for name, value in errors.items() if "_" not in name}


def draw(results: dict, sizes: list[int], path: Path) -> None:
    figure = new_figure()
    for ax, name in zip(figure.subplots(1, 2), ("forces MAE (meV/Å)", "energy MAE (meV)"), strict=True):
        for kind, label in KINDS.items():
            done = [str(size) for size in sizes if f"{kind}-{size}" in results]
            ax.semilogy(done, [results[f"{kind}-{size}"][name] for size in done], "o-", label=label)
        ax.set(xlabel="training structures", ylabel=f"test {name}")
    ax.legend(fontsize="small")
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    given = {"data": "", "init": "", "config": Path(), "folder": Path()}
    for name, default in {**given, "--steps": 3000, "--lr": 0.005, "--patience": 4}.items():
        parser.add_argument(name, type=type(default), default=default)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 30, 100, 300])
    options = parser.parse_args()
    results = json.loads(file.read_text()) if (file := options.folder / "curve.json").exists() else {}
    for key in [f"{kind}-{size}" for kind in KINDS for size in options.sizes]:
        results[key] = results.get(key) or run(options, key.split("-")[0], int(key.split("-")[1]))
        file.write_text(json.dumps(results, indent=1) + "\n")
        draw(results, options.sizes, options.folder / "curve.png")
        print(key, {name: round(value, 2) for name, value in results[key].items()}, flush=True)


if __name__ == "__main__":
    main()
