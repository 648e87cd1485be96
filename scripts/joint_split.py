"""Structures that a joint model was not trained on, for training that starts from it."""

from pathlib import Path

from ase_equivariant import load_model
from ase_equivariant.io.registry import resolve
from ase_equivariant.training.data_config import DataConfig
from ase_equivariant.training.readers import read_frames
from ase_equivariant.training.splits import make_splits


def held_out(settings: dict, train: str) -> dict:
    """What [data] says of validation: of a model to start from, its validation structures in the file ``train``.

    Those that it was trained on would call any weights good. Beside ``train`` are the other files it was trained on.
    """
    if (init := settings.get("init")) is None:
        return {}
    data = load_model(resolve(init)).card.training["config"]["data"]
    if Path(train).name not in data["train"]:
        raise SystemExit(f"{init} was not trained on {Path(train).name}: start from another model, or from none")
    files = [str(Path(train).with_name(name)) for name in data["train"]]
    before = files[: [Path(name).name for name in files].index(Path(train).name)]
    first = len(read_frames(before)) if before else 0
    last = first + len(read_frames(train))
    chosen = make_splits(DataConfig.parse(data | {"train": files, "test": None})).indices["validation"]
    return {"validation_indices": sorted(k - first for k in chosen if first <= k < last)}
