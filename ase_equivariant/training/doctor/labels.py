"""Labels that are missing or not numbers."""

from __future__ import annotations

from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.finding import Finding, Severity, count


def check_labels(data: Dataset) -> list[Finding]:
    """Labels that are not finite, and those that some frames lack and others have."""
    return [*_check_finite(data), *_check_missing(data)]


def _check_finite(data: Dataset) -> list[Finding]:
    cure = "remove the frames or their labels: training refuses them"
    return [
        Finding("labels", "error", f"{name} not finite in {count(len(frames), 'frame')}", cure, tuple(frames))
        for name, frames in data.broken.items()
    ]


def _check_missing(data: Dataset) -> list[Finding]:
    findings = []
    molecules = [k for k, frame in enumerate(data.frames) if not frame.is_isolated_atom]
    periodic = [k for k in molecules if data.frames[k].atoms.cell.rank == 3 and data.frames[k].atoms.pbc.any()]
    for name, places in (("energy", molecules), ("forces", molecules), ("stress", periodic)):
        broken = set(data.broken.get(name, ()))
        lacking = [k for k in places if getattr(data.frames[k], name) is None and int(data.index[k]) not in broken]
        if not lacking:
            continue
        if len(lacking) == len(places):
            severity: Severity = "note" if name == "stress" else "warning"
            findings.append(Finding("labels", severity, f"no {'periodic ' * (name == 'stress')}frame has {name}"))
        else:
            message = f"{name} is missing in {len(lacking)} of {count(len(places), 'frame')}"
            cure = "training leaves them out of the loss; was it meant?"
            findings.append(Finding("labels", "warning", message, cure, data.numbers_of(lacking)))
    return findings
