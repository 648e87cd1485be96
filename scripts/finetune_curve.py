"""Fine-tuning against training from scratch: errors on test structures by number of training structures.

python scripts/finetune_curve.py DATA.xyz INIT CONFIG.toml FOLDER    # resumable; CONFIG has the network from scratch
"""

import json
import sys
import tomllib
from pathlib import Path

from ase_equivariant.plotting.figure import new_figure, save_figure
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.run import train

SIZES = (10, 30, 100, 300)


def run(base: dict, folder: Path, init: str | None, size: int) -> dict[str, float]:
    # As many steps for each size; a tenth more structures validate, the test structures choose nothing.
    values = json.loads(json.dumps(base))
    batch = min(values["run"]["batch_size"], max(2, size // 5))
    epochs = max(1, round(values.pop("steps") * batch / size))
    values["data"] |= {"num_train": size, "validation": max(5, size // 10)}
    values["run"] |= {"batch_size": batch, "max_epochs": epochs, "validate_every": max(1, epochs // 60)}
    values["run"]["folder"] = str(folder / f"{'tuned' if init else 'scratch'}-{size}")
    if init:  # and gentler than from random weights
        values = {k: v for k, v in values.items() if k != "model"} | {"init": init}
        values["optimizer"]["lr"] /= 4
    result = train(TrainConfig.parse(values), quiet=True)
    return {k: v for k, v in result.evaluations["test"].errors().items() if k.split()[0] in ("energy", "forces")}


def draw(results: dict, path: Path) -> None:
    figure = new_figure()
    for ax, name in zip(figure.subplots(1, 2), ("forces MAE (meV/Å)", "energy MAE (meV)"), strict=True):
        for kind in ("scratch", "tuned"):
            sizes = [size for size in SIZES if f"{kind}-{size}" in results]
            ax.loglog(sizes, [results[f"{kind}-{size}"][name] for size in sizes], "o-", label=kind)
        ax.set(xlabel="training structures", ylabel=f"test {name}")
        ax.legend()
    save_figure(figure, path)


def main() -> None:
    data, init, config, folder = *sys.argv[1:4], Path(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    base = tomllib.loads(Path(config).read_text()) | {"steps": 3000}
    base["data"]["train"] = data
    results = json.loads(file.read_text()) if (file := folder / "curve.json").exists() else {}
    for size in SIZES:
        for start in (None, init):
            key = f"{'tuned' if start else 'scratch'}-{size}"
            results[key] = results.get(key) or run(base, folder, start, size)
            file.write_text(json.dumps(results, indent=1) + "\n")
            draw(results, folder / "curve.png")
            print(key, {name: round(value, 2) for name, value in results[key].items()}, flush=True)


if __name__ == "__main__":
    main()
