"""Tables of ``results_page.py``: a row for each model, and what they are together."""

import json
from pathlib import Path

import numpy as np

from ase_equivariant import load_model


def network(card) -> str:
    """Layers times channels of scalars, a square where features are squared, epochs, and what they started from."""
    architecture = card.training["config"]["model"]["architecture"]
    start = f" from {card.training['parent']['name']}" if "parent" in card.training else ""
    channels = str(architecture.get("irreps_hidden", "vectors")).partition("x")[0]
    squares = "²" if architecture.get("tensor_square") else ""
    return f"{architecture['num_layers']} × {channels}{squares}, {card.training['epochs']}{start}"


def cells(path: Path, published: list[str], error: str, energy: str, unit: str, speeds: dict) -> list[str]:
    loaded = load_model(path)
    card, size = loaded.card, sum(p.numel() for p in loaded.potential.parameters())
    errors = [card.errors.get(f"test {key} {error} ({u})") for key, u in ((energy, unit), ("forces", "meV/Å"))]
    found = [path.stem, " / ".join(f"{value:.2f}" if value else "–" for value in errors), *published, f"{size}"]
    found += [network(card), f"{path.stat().st_size / 1e6:.2f}", f"{card.training['hours']}"]
    speed = speeds[path.stem]
    return [*found, f"{speed['microseconds_per_atom']:.0f} ({speed['structure']})"]


def together(rows: list[list[str]], num_errors: int) -> list[str]:
    """Means of the columns of errors where all are known, and the sum of the hours."""
    means = []
    for column in zip(*(row[1 : 1 + num_errors] for row in rows), strict=True):
        known = [[float(x) for x in cell.split(" / ")] for cell in column if "–" not in cell]
        means.append(" / ".join(f"{x:.2f}" for x in np.mean(known, axis=0)) if len(known) == len(rows) else "–")
    hours = sum(float(row[-2]) for row in rows)
    return [f"mean of {len(rows)}", *means, "", "", "", f"{hours:.1f} in all", ""]


def of_files(files: list[Path], known: dict) -> str:
    """A row for each file of `ase-equivariant evaluate --json`."""
    rows = [["structures", "model", "how many", "energy / forces RMSE (meV, meV/Å)", *known["columns"]]]
    rows.append(["---"] * len(rows[0]))
    for path in files:
        found = json.loads(path.read_text())
        errors = [f"{found['errors'][key]:.2f}" for key in ("energy RMSE (meV)", "forces RMSE (meV/Å)")]
        published = known["errors"].get(path.stem, ["–"] * len(known["columns"]))
        rows.append([path.stem, found["model"], str(found["num_structures"]), " / ".join(errors), *published])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def table(models: list[Path], known: dict, speeds: dict, mean: bool = False) -> str:
    error, columns, errors = known.get("error", "RMSE"), known["columns"], known["errors"]
    energy, unit = known.get("energy", "energy"), known.get("unit", "meV")
    own = ["parameters", "network, epochs", "MB", "hours", "µs/atom"]
    head = ["model", f"test energy / forces {error} ({unit}, meV/Å)", *columns, *own]
    of_others = [errors.get(path.stem.partition("-")[2] or path.stem, ["–"] * len(columns)) for path in models]
    rows = [cells(path, others, error, energy, unit, speeds) for path, others in zip(models, of_others, strict=True)]
    rows += [together(rows, 1 + len(columns))] if mean else []
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))
