"""Write models/README.md from the files in models/: what is measured here beside what is published.

python scripts/results_page.py [FOLDER]
"""

import json
import sys
from pathlib import Path

import evaluate_readouts as readouts
import evaluate_universal as universal

from ase_equivariant import load_model


def network(card) -> str:
    """Layers times channels of scalars, a square where features are squared, and epochs."""
    architecture = card.training["config"]["model"]["architecture"]
    channels = str(architecture.get("irreps_hidden", "vectors")).partition("x")[0]
    squares = "²" if architecture.get("tensor_square") else ""
    return f"{architecture['num_layers']} × {channels}{squares}, {card.training['epochs']}"


def row(path: Path, published: list[str], error: str, energy: str, unit: str) -> str:
    loaded = load_model(path)
    card, size = loaded.card, sum(p.numel() for p in loaded.potential.parameters())
    errors = [card.errors.get(f"test {key} {error} ({u})") for key, u in ((energy, unit), ("forces", "meV/Å"))]
    cells = [path.stem, " / ".join(f"{value:.2f}" if value else "–" for value in errors), *published, size]
    cells += [network(card), f"{path.stat().st_size / 1e6:.2f}", card.training["hours"]]
    speed = card.training.get("speed", {"microseconds_per_atom": "–", "structure": "not measured"})
    return f"| {' | '.join(map(str, cells))} | {speed['microseconds_per_atom']} ({speed['structure']}) |\n"


def table(models: list[Path], known: dict, energy: str = "energy", unit: str = "meV") -> str:
    error, columns, errors = known.get("error", "RMSE"), known.get("columns", []), known.get("errors", {})
    own = ["parameters", "network, epochs", "MB", "hours", "µs/atom"]
    head = ["model", f"test energy / forces {error} ({unit}, meV/Å)", *columns, *own]
    of_others = [errors.get(path.stem.partition("-")[2] or path.stem, ["–"] * len(columns)) for path in models]
    rows = [row(path, cells, error, energy, unit) for path, cells in zip(models, of_others, strict=True)]
    return "".join([f"| {' | '.join(head)} |\n", f"|{'---|' * len(head)}\n", *rows])


def main() -> None:
    folder = Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parent.parent / "models")
    results, published = (json.loads((folder / f"{name}.json").read_text()) for name in ("universal", "published"))
    files = sorted(folder.glob("*.safetensors"))
    groups = {kind: [path for path in files if path.stem.startswith(f"{kind}-")] for kind in ("md17", "rmd17")}
    groups["flexible"] = [path for path in files if path.stem in published["flexible"]["errors"]]
    page = {kind: table(models, published[kind]) for kind, models in groups.items()}
    page["others"] = table(sorted(set(files).difference(*groups.values())), {}, "energy_per_atom", "meV/atom")
    page["universal"] = universal.rows(results, published["universal"])
    page |= {f"{kind}_source": published[kind]["source"] for kind in groups}
    page["sources"] = "; ".join(dict.fromkeys(known["source"] for known in published["universal"].values()))
    page["cards"] = ", ".join(f"[{path.stem}]({path.stem}.md)" for path in files)
    page["readouts"] = readouts.table(sorted(folder.glob("*-readouts.json")))
    (folder / "README.md").write_text((folder / "README.in.md").read_text("utf-8").format(**page), "utf-8")


if __name__ == "__main__":
    main()
