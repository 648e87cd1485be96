"""All checks on a data set, and on two that are to be used together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ase_equivariant.training.doctor.copies import check_duplicates, check_overlap
from ase_equivariant.training.doctor.dataset import Dataset
from ase_equivariant.training.doctor.elements import check_elements, check_new_elements, count_elements
from ase_equivariant.training.doctor.energies import check_energies
from ase_equivariant.training.doctor.finding import SEVERITIES, Finding
from ase_equivariant.training.doctor.forces import check_forces
from ase_equivariant.training.doctor.labels import check_labels
from ase_equivariant.training.doctor.near_copies import check_near_duplicates
from ase_equivariant.training.doctor.outliers import check_outliers
from ase_equivariant.training.doctor.source import check_files
from ase_equivariant.training.doctor.stress import check_stress
from ase_equivariant.training.doctor.structures import check_structures
from ase_equivariant.training.doctor.units import check_units
from ase_equivariant.training.doctor.zeros import check_zeros
from ase_equivariant.training.frames import Frame
from ase_equivariant.training.labels import LabelConfig
from ase_equivariant.training.readers import read_frames
from ase_equivariant.training.units import energy_unit

# Besides that of units, of which a part may have several.
CHECKS: tuple[Callable[[Dataset], list[Finding]], ...] = (
    check_labels,
    check_energies,
    check_zeros,
    check_forces,
    check_stress,
    check_duplicates,
    check_near_duplicates,
    check_outliers,
    check_structures,
    check_elements,
)
PAIR_CHECKS: tuple[Callable[[Dataset, Dataset], list[Finding]], ...] = (check_overlap, check_new_elements)


@dataclass(frozen=True)
class Report:
    """What the checks found, the worst first, and what the parts hold."""

    findings: tuple[Finding, ...]
    parts: dict[str, dict[str, Any]]

    @property
    def has_errors(self) -> bool:
        """Whether anything would make a model wrong."""
        return any(finding.severity == "error" for finding in self.findings)


def examine(
    train: Sequence[Frame],
    test: Sequence[Frame] | None = None,
    *,
    units: str | Sequence[str] = "eV",
    test_units: str | Sequence[str] | None = None,
    length_units: str = "Angstrom",
    files: Sequence[Finding] = (),
) -> Report:
    """Run every check.

    Parameters
    ----------
    train, test : sequence of Frame
        As read; NaN is allowed, and found.
    units, test_units : str or sequence of str
        The units of energy that the frames were read with, all or each, for the cure of wrong ones; those of the
        test part are by default the same.
    length_units : str
        That of lengths.
    files : sequence of Finding
        What was found in the files themselves.
    """
    parts, findings = {}, list(files)
    for name, frames, read_as in (("train", train, units), ("test", test, test_units or units)):
        if frames is None:
            continue
        each = [read_as] * len(frames) if isinstance(read_as, str) else list(read_as)
        parts[name] = data = Dataset(frames, each[0] if each else "eV", length_units)
        found = [finding for check in CHECKS for finding in check(data)]
        for unit in dict.fromkeys(each):
            alike = [frame for frame, other in zip(frames, each, strict=True) if other == unit]
            found += check_units(data if len(alike) == len(frames) else Dataset(alike, unit, length_units))
        findings += [replace(finding, part=name) for finding in found]
    if test is not None:
        findings += [finding for check in PAIR_CHECKS for finding in check(parts["train"], parts["test"])]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(tuple(findings), {name: _contents(data) for name, data in parts.items()})


def examine_files(train: Sequence[Path], test: Sequence[Path], config: LabelConfig | None = None) -> Report:
    """Read the files as training would, and run every check.

    Raises
    ------
    DataError
        If a file cannot be read, or has neither energies nor forces.
    """
    config = config or LabelConfig()
    train_files, test_files = (
        [read_frames(path, config, allow_nonfinite=True) for path in part] for part in (train, test)
    )
    found = check_files(train, [len(frames) for frames in train_files], config)
    of_test = check_files(test, [len(frames) for frames in test_files], config)
    found += [replace(finding, part="test") for finding in of_test]
    units, test_units = (
        [energy_unit(path, config) for path, frames in zip(paths, read, strict=True) for _ in frames]
        for paths, read in ((train, train_files), (test, test_files))
    )
    frames, test_frames = (list(chain.from_iterable(part)) for part in (train_files, test_files))
    lengths = config.length_units
    return examine(frames, test_frames or None, units=units, test_units=test_units, length_units=lengths, files=found)


def _contents(data: Dataset) -> dict[str, Any]:
    labelled = {
        name: sum(getattr(frame, name) is not None for frame in data.frames) for name in ("energy", "forces", "stress")
    }
    return {
        "frames": data.total,
        "atoms": sum(len(frame.atoms) for frame in data.frames),
        "labels": labelled,
        "elements": {symbol: {"atoms": a, "frames": f} for symbol, (a, f) in count_elements(data).items()},
    }
