"""One batch, several processes: who takes which structures."""

from __future__ import annotations

from collections.abc import Sequence


def divide(costs: Sequence[int], parts: int) -> list[list[int]]:
    """Divide items so that the largest sum of costs is small: the costliest first, each to the part with least.

    A step takes as long as its slowest process, and a structure's time goes with its edges.

    Parameters
    ----------
    costs : sequence of int
        Of each item, not negative.
    parts : int
        Number of parts.

    Returns
    -------
    list of list of int
        Positions of each part's items, ascending. No part is empty unless there are more parts than items.

    References
    ----------
    Graham, SIAM J. Appl. Math. 17, 416 (1969): at most 4/3 of the optimum.
    """
    taken: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for item in sorted(range(len(costs)), key=lambda k: -costs[k]):
        part = min(range(parts), key=lambda p: (loads[p], len(taken[p])))  # of those with equal loads the shortest
        taken[part].append(item)
        loads[part] += costs[item]
    return [sorted(items) for items in taken]
