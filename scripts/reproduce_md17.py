"""Train MD17 and revised MD17 molecules by a file of models/configs and print their lines of the published table.

python scripts/reproduce_md17.py DATA ethanol aspirin --labels original   # or all; again after a kill: continues"""

import argparse
import json
from pathlib import Path

import numpy as np
from joint_split import held_out

from ase_equivariant.cli.errors import run_program
from ase_equivariant.training.config import TrainConfig, read_settings
from ase_equivariant.training.run import train

MODELS = Path(__file__).parent.parent / "models"
PUBLISHED = json.loads((MODELS / "published.json").read_text())
MOLECULES = list(PUBLISHED["rmd17"]["errors"])


def configure(args: argparse.Namespace, molecule: str, split: str, seed: int) -> TrainConfig:
    settings = read_settings(args.config, args.set)
    name = f"{'rmd17' if args.labels == 'revised' else 'md17'}-{molecule}"
    settings["run"]["folder"] = f"{args.folder}/{name}" + (f".{split}.{seed}" if (split, seed) != ("01", 0) else "")
    files = {part: f"{args.data}/rmd17_{molecule}_{part}_{split}.npz" for part in ("train", "test")}
    settings["data"] |= {**files, "labels": args.labels, "split_seed": seed} | held_out(settings, files["train"])
    settings["run"] |= {"name": name, "seed": seed, "max_epochs": args.epochs or settings["run"]["max_epochs"]}
    settings["card"] |= {labels: settings["card"].pop(labels) for labels in ("original", "revised")}[args.labels]
    settings["card"]["training_data"] += f", {molecule}, split {split}"
    whole = molecule.replace("salicylic", "salicylic acid").capitalize()
    settings["card"]["description"] = f"{whole} near 500 K, in the gas phase."
    return TrainConfig.parse(settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of rmd17_MOLECULE_{train,test}_SPLIT.npz: published splits, both labels")
    parser.add_argument("molecules", nargs="+", choices=["all", *MOLECULES])
    parser.add_argument("--labels", choices=["revised", "original"], default="revised")
    parser.add_argument("--splits", nargs="+", default=["01"], type=lambda k: k.zfill(2), help="01 02: mean ± spread")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="likewise")
    parser.add_argument("--config", type=Path, default=MODELS / "configs" / "md17.toml")
    parser.add_argument("--folder", default="runs")
    parser.add_argument("--epochs", type=int, help="instead of the configuration's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as ase-equivariant train's")
    args = parser.parse_args()
    published = PUBLISHED["rmd17" if args.labels == "revised" else "md17"]
    print(f"| molecule | energy / forces MAE (meV, meV/Å) | hours | {' | '.join(published['columns'])} |")
    for molecule in MOLECULES if "all" in args.molecules else args.molecules:
        runs = [train(configure(args, molecule, split, seed)) for split in args.splits for seed in args.seeds]
        if any(run.stopped for run in runs):
            raise SystemExit("stopped: the same command continues")
        maes = 1e3 * np.array([[r.evaluations["test"].comparisons[k].mae for r in runs] for k in ("energy", "forces")])
        cells = " / ".join(f"{v.mean():.2f}" + (f" ± {v.std(ddof=1):.2f}" if len(v) > 1 else "") for v in maes)
        hours = f"{np.mean([run.record['hours'] for run in runs]):.1f}"
        print("|", *(f"{cell} |" for cell in [molecule, cells, hours, *published["errors"].get(molecule, [])]))


if __name__ == "__main__":
    run_program(main)
