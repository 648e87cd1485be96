"""Write models/NAME.md for the shipped models: what the file says of itself, and speed and drift measured here.

python scripts/model_cards.py [FOLDER]    # minutes"""

import platform
import sys
import tempfile
from pathlib import Path

import torch
from ase.build import bulk, molecule

from ase_equivariant import EquivariantCalculator, load_model
from ase_equivariant.io.registry import shipped_models
from ase_equivariant.recipes.ensembles import MDSettings
from ase_equivariant.recipes.md import run_md

ETHANOL = (molecule("CH3CH2OH"), 0.5, 20000)  # structure, time step in fs, steps
SYSTEMS = {"si": (bulk("Si", cubic=True) * (2, 2, 2), 1.0, 2000), "rmd17-ethanol": ETHANOL}


def card(name: str, path: Path) -> str:
    loaded = load_model(path)
    header, about = loaded.header, loaded.card
    lines = [f"# {name}", "", about.description, "", "| | |", "|---|---|"]
    size = sum(p.numel() for p in loaded.potential.parameters())
    facts = {
        "elements": ", ".join(loaded.potential.species),
        "level of theory": about.level_of_theory,
        "training data": about.training_data,
        **({"fine-tuned from": about.training["parent"]["name"]} if "parent" in about.training else {}),
        "data licence, model licence": f"{about.data_license}, {about.license}",
        "cutoff, parameters, file": f"{loaded.potential.cutoff:g} Å, {size}, {path.stat().st_size / 1e6:.2f} MB",
        "sha256": header.sha256,
        **{quantity: f"{value:.4g}" for quantity, value in about.errors.items()},
    }
    for dtype in ("float32", "float64") if name in SYSTEMS else ():
        start, timestep, steps = SYSTEMS[name]
        atoms = start.copy()
        atoms.calc = EquivariantCalculator(path, dtype=dtype)
        settings = MDSettings(ensemble="nve", temperature_K=600.0, timestep_fs=timestep)
        with tempfile.TemporaryDirectory() as folder:
            result = run_md(atoms, steps, settings, folder=folder)
        label = f"NVE from 600 K, {atoms.symbols}, {settings.timestep_fs} fs, {steps} steps, {dtype}"
        speed = 1e6 / result.steps_per_second / len(atoms)
        facts[label] = f"drift {result.drift_meV_per_atom_ps:.4f} meV/atom/ps; {speed:.0f} µs/atom/step"
    lines += [f"| {quantity} | {value} |" for quantity, value in facts.items()]
    measured = f"Speed on {platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    return "\n".join([*lines, "", f"{measured}, with `python scripts/model_cards.py`.", ""])


def main() -> None:
    output = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "models")
    for path in sorted(set(shipped_models().values())):  # once, though some have a short name, too
        (output / f"{path.stem}.md").write_text(card(path.stem, path), encoding="utf-8")
        print(f"wrote {output / path.stem}.md")


if __name__ == "__main__":
    main()
