"""Write models/README.md from the files in models/: what is measured here beside what is published.

python scripts/results_page.py [FOLDER]
"""

import json
import sys
from pathlib import Path

from ase.units import GPa

from ase_equivariant import load_model


def shipped(folder: Path) -> str:
    rows = []
    for path in sorted(folder.glob("*.safetensors")):
        loaded = load_model(path)
        errors, size = loaded.card.errors, sum(p.numel() for p in loaded.potential.parameters())
        forces = " / ".join(f"{errors[f'test forces {kind} (meV/Å)']:.2f}" for kind in ("MAE", "RMSE"))
        rows.append(
            f"| {path.stem} | {' '.join(loaded.potential.species)} | {loaded.card.level_of_theory} | {forces} "
            f"| {errors['test energy MAE (meV)']:.2f} | {size} | {path.stat().st_size / 1e6:.2f} MB |\n"
        )
    return "".join(rows)


def universal(folder: Path) -> tuple[str, str]:
    results, published = (json.loads((folder / name).read_text()) for name in ("universal.json", "published.json"))
    rows, sources = [], []
    for name, found in results.items():
        stress = found["stress MAE (meV/Å³)"] / 1000 / GPa
        known = published.get(name, {})
        if known and known["source"] not in sources:
            sources.append(known["source"])
        rows.append(
            f"| {name} | {found['energy_per_atom MAE (meV/atom)']:.1f} | {found['forces MAE (meV/Å)']:.1f} "
            f"| {stress:.2f} | {known.get('errors', '–')} |\n"
        )
    return "".join(rows), "; ".join(sources)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "models")
    rows, sources = universal(folder)
    template = (folder / "README.in.md").read_text(encoding="utf-8")
    page = template.format(shipped=shipped(folder), universal=rows, sources=sources)
    (folder / "README.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
