"""Irreps of O(3) and lists of them, in e3nn's notation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_PARITY = {"e": 1, "o": -1}
_IRREP = re.compile(r"\s*(\d+)([eoy])\s*", re.ASCII)
_TERM = re.compile(r"\s*(?:(\d+)\s*x)?(.+)", re.ASCII | re.DOTALL)


class _Label(NamedTuple):
    l: int  # noqa: E741 - the field's name for the degree
    p: int


class Irrep(_Label):
    """The irrep of degree l and parity p.

    ``Irrep(1, -1)`` is ``Irrep("1o")``, that of vectors; "1y" means the parity (−1)^l of the spherical
    harmonics. A tuple (l, p), so that irreps sort by l and then odd before even, and e3nn takes it for its own.

    Raises
    ------
    ValueError
        If this is no irrep.
    """

    __slots__ = ()

    def __new__(cls, l: int | str | tuple[int, int], p: int | None = None) -> Irrep:  # noqa: E741
        """From l and p, the tuple of both, or text."""
        if isinstance(l, str):
            found = _IRREP.fullmatch(l)
            if found is None:
                raise ValueError(f"{l!r} is not an irrep in e3nn's notation, such as '1o'")
            l, p = int(found[1]), _PARITY.get(found[2], (-1) ** int(found[1]))  # noqa: E741
        elif isinstance(l, tuple):
            l, p = l  # noqa: E741
        if not (isinstance(l, int) and l >= 0 and p in (1, -1)):
            raise ValueError(f"there is no irrep with l = {l!r}, p = {p!r}: l is 0, 1, 2 … and p is 1 or -1")
        return super().__new__(cls, l, p)

    @property
    def dim(self) -> int:
        """2l+1."""
        return 2 * self.l + 1

    def __mul__(self, other: tuple[int, int]) -> Iterator[Irrep]:  # type: ignore[override]
        """The irreps in the product with ``other``: |l1−l2| … l1+l2, with the product of the parities."""
        l2, p2 = other
        return (Irrep(l, self.p * p2) for l in range(abs(self.l - l2), self.l + l2 + 1))  # noqa: E741

    def __repr__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"


class Irreps:
    """Irreps with their multiplicities, in the order given: "64x0e+32x1o".

    Parameters
    ----------
    irreps : str, Irrep, Irreps or pairs
        Text, or pairs (multiplicity, irrep), which e3nn's irreps are too.

    Raises
    ------
    ValueError
        If these are no irreps.
    """

    __slots__ = ("_pairs",)

    def __init__(self, irreps: str | Irrep | Irreps | Iterable[tuple[int, Irrep | str | tuple[int, int]]] = ()):
        if isinstance(irreps, str):
            pairs = _parse(irreps)
        elif isinstance(irreps, Irrep):
            pairs = [(1, irreps)]
        else:
            pairs = [(mul, Irrep(ir)) for mul, ir in irreps]
        for mul, ir in pairs:
            if not isinstance(mul, int) or mul < 0:
                raise ValueError(f"there cannot be {mul!r} of the irrep {ir}")
        self._pairs = tuple(pairs)

    @classmethod
    def spherical_harmonics(cls, l_max: int, p: int = -1) -> Irreps:
        """Of the harmonics 0 … ``l_max``; ``p`` is the parity of a vector, 1 if parity is disregarded."""
        return cls([(1, (l, p**l)) for l in range(l_max + 1)])  # noqa: E741

    @property
    def dim(self) -> int:
        """Σ mul·(2l+1)."""
        return sum(mul * ir.dim for mul, ir in self)

    @property
    def lmax(self) -> int:
        """The highest degree of which there is one.

        Raises
        ------
        ValueError
            If there is none.
        """
        degrees = [ir.l for mul, ir in self if mul]
        if not degrees:
            raise ValueError(f"the irreps '{self}' have no highest degree: there are none")
        return max(degrees)

    def count(self, ir: str | Irrep | tuple[int, int]) -> int:
        """Multiplicity of ``ir``, summed over its occurrences."""
        wanted = Irrep(ir)
        return sum(mul for mul, found in self if found == wanted)

    def regroup(self) -> Irreps:
        """Sorted by (l, p), each irrep once, empty ones dropped."""
        present = sorted({ir for mul, ir in self if mul})
        return Irreps([(self.count(ir), ir) for ir in present])

    def __iter__(self) -> Iterator[tuple[int, Irrep]]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, ir: str | Irrep | tuple[int, int]) -> bool:
        return self.count(ir) > 0

    def __add__(self, other: Irreps) -> Irreps:
        return Irreps([*self, *Irreps(other)])

    def __eq__(self, other: object) -> bool:
        return self._pairs == other._pairs if isinstance(other, Irreps) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return "+".join(f"{mul}x{ir}" for mul, ir in self)


def merge(irreps: str | Irreps) -> Irreps:
    """Sorted by (l, p), each irrep once, empty ones dropped: the form every layer speaks."""
    return Irreps(irreps).regroup()


def _parse(text: str) -> list[tuple[int, Irrep]]:
    if not text.strip():
        return []
    pairs = []
    for term in text.split("+"):
        found = _TERM.fullmatch(term)
        if found is None or not _IRREP.fullmatch(found[2]):
            raise ValueError(f"{text!r} is not irreps in e3nn's notation, such as '32x0e+32x1o'")
        pairs.append((int(found[1] or 1), Irrep(found[2])))
    return pairs
