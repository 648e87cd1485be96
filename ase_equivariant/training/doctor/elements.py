"""Which elements there are, in how many atoms and frames."""

from __future__ import annotations

from collections import Counter

from ase.data import atomic_numbers

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.finding import Finding, count

_RARE = 10  # frames


def count_elements(data: Dataset) -> dict[str, tuple[int, int]]:
    """Number of atoms and of frames of each element, by atomic number."""
    atoms: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    for frame in data.frames:
        symbols = frame.atoms.get_chemical_symbols()
        atoms.update(symbols)
        frames.update(set(symbols))
    return {symbol: (atoms[symbol], frames[symbol]) for symbol in sorted(atoms, key=atomic_numbers.__getitem__)}


def check_elements(data: Dataset) -> list[Finding]:
    """Elements that are in a few of many frames only."""
    if len(data) < 10 * _RARE:
        return []
    rare = [symbol for symbol, (_, frames) in count_elements(data).items() if frames < _RARE]
    if not rare:
        return []
    message = f"fewer than {_RARE} frames have {', '.join(rare)}"
    return [Finding("elements", "note", message)]


def check_new_elements(train: Dataset, test: Dataset) -> list[Finding]:
    """Elements that only the test part has."""
    known = count_elements(train)
    new = [symbol for symbol in count_elements(test) if symbol not in known]
    if not new:
        return []
    places = [k for k, frame in enumerate(test.frames) if set(frame.atoms.get_chemical_symbols()) & set(new)]
    message = f"{', '.join(new)}: in {count(len(places), 'test frame')}, in no training frame"
    cure = "a model knows only elements it was trained on: move or remove them"
    return [Finding("elements", "error", message, cure, test.numbers_of(places), part="test")]
