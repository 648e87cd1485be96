"""How a training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes


def plot_learning_curve(rows: Sequence[Mapping[str, str]], ax: Axes, column: str, label: str, unit: str) -> Axes:
    """A validation error over epochs, both logarithmic.

    Parameters
    ----------
    rows : sequence of mappings
        Of a run's ``metrics.csv``, from :func:`ase_equivariant.training.logs.read_metrics`.
    ax : Axes
        Drawn into.
    column : str
        Such as ``val_forces_mae``.
    label, unit : str
        For the axis.

    Raises
    ------
    ValueError
        If no row has a value in the column.
    """
    points = [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
    if not points:
        names = ", ".join(name for name in (rows[0] if rows else {}) if name.startswith("val_"))
        raise ValueError(f"no {column!r} in these metrics: choose one of {names or 'none, the table is empty'}")
    epochs, errors = zip(*points, strict=True)
    ax.loglog(epochs, errors, lw=1)
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"{label} ({unit})")
    return ax
