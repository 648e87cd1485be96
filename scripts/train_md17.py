"""Train a small potential on an MD17 or revised MD17 file (npz) and say what it is worth.

python scripts/train_md17.py rmd17_ethanol.npz --epochs 100
"""

import argparse

from ase_equivariant.cli.errors import run_program
from ase_equivariant.training.config import TrainConfig
from ase_equivariant.training.run import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="npz as published")
    parser.add_argument("--name", default="md17", help="of the model, such as the molecule's")
    parser.add_argument("--folder", default=None, help="default runs/NAME; the same command continues a run")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--num-train", type=int, default=None, help="default: all but the validation structures")
    parser.add_argument("--validation", type=int, default=50)
    parser.add_argument("--irreps", default="32x0e+16x1o+8x2e")
    parser.add_argument("--l-max", type=int, default=2)
    args = parser.parse_args()

    config = TrainConfig.parse(
        {
            "data": {"train": args.file, "validation": args.validation, "num_train": args.num_train},
            "model": {
                "architecture": {"cutoff": 5.0, "num_layers": 3, "l_max": args.l_max, "irreps_hidden": args.irreps}
            },
            "loss": {"energy": {"kind": "norm", "weight": 2.0}, "forces": {"kind": "norm"}},
            "optimizer": {"name": "muon", "lr": 0.02},
            "schedule": {"name": "linear"},
            "run": {"name": args.name, "folder": args.folder, "max_epochs": args.epochs},
        }
    )
    result = train(config)
    if result.stopped:
        raise SystemExit(f"stopped: {result.stopped}; the same command continues")
    for name, value in result.evaluations["validation"].errors().items():
        print(f"{name}: {value:.4g}")
    print(f"wrote {result.model_file}")


if __name__ == "__main__":
    run_program(main)
