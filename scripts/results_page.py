"""Write models/README.md from the files in models/: what is measured here beside what is published.

python scripts/results_page.py [FOLDER]
"""

import json
import sys
from pathlib import Path

from ase.units import GPa

from ase_equivariant import load_model


def row(path: Path, published: list[str], error: str = "MAE") -> str:
    loaded = load_model(path)
    card, size = loaded.card, sum(p.numel() for p in loaded.potential.parameters())
    energy, forces = (card.errors[f"test {key} {error} ({u})"] for key, u in (("energy", "meV"), ("forces", "meV/Å")))
    training, speed = card.training, card.training.get("speed", {})
    cells = [path.stem, f"{energy:.2f} / {forces:.2f}", *published, size, f"{path.stat().st_size / 1e6:.2f}"]
    cells.append(f"{speed['microseconds_per_atom']:.0f} ({speed['structure']})" if speed else "–")
    cells.append(f"{training['hours']:.1f}")
    return f"| {' | '.join(map(str, cells))} |\n"


def table(models: list[Path], known: dict, error: str = "MAE") -> str:
    head = ["model", f"test energy / forces {error} (meV, meV/Å)", *known.get("columns", []), "parameters", "MB"]
    head += ["µs/atom/step", "hours of training"]
    empty = ["–"] * len(known.get("columns", []))
    rows = [row(path, known.get("errors", {}).get(path.stem.partition("-")[2], empty), error) for path in models]
    return "".join([f"| {' | '.join(head)} |\n", f"|{'---|' * len(head)}\n", *rows])


def universal(results: dict, published: dict) -> str:
    rows = []
    for name, found in results.items():
        cells = [found["energy_per_atom MAE (meV/atom)"], found["forces MAE (meV/Å)"]]
        stress, errors = found["stress MAE (meV/Å³)"] / 1000 / GPa, published.get(name, {}).get("errors", "–")
        rows.append(f"| {name} | {cells[0]:.1f} | {cells[1]:.1f} | {stress:.2f} | {errors} |\n")
    return "".join(rows)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "models")
    results, published = (json.loads((folder / name).read_text()) for name in ("universal.json", "published.json"))
    files = sorted(folder.glob("*.safetensors"))
    groups = {kind: [path for path in files if path.stem.startswith(f"{kind}-")] for kind in ("md17", "rmd17")}
    page = {kind: table(models, published[kind]) for kind, models in groups.items()}
    page["others"] = table([path for path in files if not any(path in group for group in groups.values())], {}, "RMSE")
    page["universal"] = universal(results, published["universal"])
    page |= {f"{kind}_source": published[kind]["source"] for kind in groups}
    page["sources"] = "; ".join(dict.fromkeys(known["source"] for known in published["universal"].values()))
    page["cards"] = ", ".join(f"[{path.stem}]({path.stem}.md)" for path in files)
    template = (folder / "README.in.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(template.format(**page), encoding="utf-8")


if __name__ == "__main__":
    main()
