"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One observation on a data set.

    Attributes
    ----------
    check : str
        Which check found it.
    severity : {"error", "warning", "note"}
        An error makes a model wrong, a warning deserves a look, a note says what was measured.
    message : str
        One line: what, with the value.
    cure : str
        What to do about it; empty for most notes.
    frames : tuple of int
        Numbers of the frames concerned, counted from 0 through all files of the part; empty if it is all.
    part : {"train", "test"}
        Which part the frames belong to.
    """

    check: str
    severity: Severity
    message: str
    cure: str = ""
    frames: tuple[int, ...] = ()
    part: str = "train"


def numbers(values: Iterable[int], shown: int = 6) -> str:
    """The first few frame numbers, and how many there are."""
    listed = sorted(values)
    text = ", ".join(map(str, listed[:shown]))
    return text if len(listed) <= shown else f"{text} … ({len(listed)})"


def count(amount: int, singular: str, plural: str | None = None) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{amount} {singular if amount == 1 else plural or singular + 's'}"
