"""The run's table of metrics."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ase_equivariant.io.atomic import atomic_path
from ase_equivariant.training.loss import QUANTITIES


def columns(readouts: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the table's columns for a model with these read-outs beside the energy."""
    errors = (f"val_{quantity}_{kind}" for quantity in (*QUANTITIES, *readouts) for kind in ("mae", "rmse"))
    return "epoch", "step", "lr", "train_loss", "val_loss", *errors, "seconds"


class MetricsLog:
    """A CSV file with one row an epoch; errors in meV, meV/atom, meV/Å, meV/Å³ and thousandths of read-outs' units.

    Parameters
    ----------
    path : Path
        Created with its header; rows of epochs after ``last_epoch`` are dropped, as those
        epochs are about to be trained again, and so is a line that was cut off.
    last_epoch : int
        Last epoch that counts.
    trim : bool
        Whether to prepare the file; of several processes one does.
    readouts : iterable of str
        What the model predicts beside the energy.
    """

    def __init__(self, path: Path, last_epoch: int = 0, *, trim: bool = True, readouts: Iterable[str] = ()):
        self.path, self.columns = path, columns(readouts)
        if not trim:
            return
        kept = [row for row in read_metrics(path) if int(row["epoch"]) <= last_epoch] if path.exists() else []
        with atomic_path(path) as temporary:
            header = dict(zip(self.columns, self.columns, strict=True))
            temporary.write_text(_to_csv([header, *kept], self.columns), encoding="utf-8")

    def write(self, row: Mapping[str, float | int]) -> None:
        """Append the row of one epoch; a quantity that is not in it is left empty."""
        with open(self.path, "a", encoding="utf-8", newline="") as stream:
            stream.write(_to_csv([row], self.columns))

    def flush(self) -> None:
        """Bring all rows to the disk, before a checkpoint that counts on them."""
        with open(self.path, "rb+") as stream:
            os.fsync(stream.fileno())


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """Whole rows of a metrics file, as text by column."""
    text = Path(path).read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(io.StringIO(whole)))


def _to_csv(rows: list[Mapping[str, float | int]] | list[dict[str, str]], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writerows(rows)
    return text.getvalue()
