"""Sets of seqs as sorted closed ranges: what is new, what is in. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from shared.link import Range

Ranges = tuple[Range, ...]


def normal(ranges: Iterable[Range]) -> Ranges:
    """Sort ranges and join those that touch."""
    joined: list[Range] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)


def holds(ranges: Sequence[Range], seq: int) -> bool:
    """Tell whether normal ranges contain a seq."""
    at = bisect_right(ranges, seq, key=lambda each: each[0]) - 1
    return at >= 0 and seq <= ranges[at][1]


def difference(ranges: Sequence[Range], without: Sequence[Range]) -> Ranges:
    """List what normal `ranges` contain and normal `without` does not."""
    left: list[Range] = []
    at = 0
    for first, last in ranges:
        start = first
        while at < len(without) and without[at][1] < start:
            at += 1
        index = at
        while index < len(without) and without[index][0] <= last:
            if without[index][0] > start:
                left.append((start, without[index][0] - 1))
            start = without[index][1] + 1
            index += 1
        if start <= last:
            left.append((start, last))
    return tuple(left)
