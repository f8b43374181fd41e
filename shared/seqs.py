"""A set of seqs kept as closed ranges, for sets that are almost contiguous."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from shared.link import Range


class SeqSet:
    """Seqs as ascending, disjoint, non-touching closed ranges."""

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """Make the set of all seqs in `ranges`, which may overlap and come in any order."""
        self._ranges: list[Range] = []
        for first, last in sorted(tuple(one) for one in ranges):
            self.add(first, last)

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._ranges)

    def __iter__(self) -> Iterator[Range]:
        return iter(self._ranges)

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._ranges, (seq, 2**63)) - 1
        return at >= 0 and self._ranges[at][1] >= seq

    def ranges(self) -> tuple[Range, ...]:
        """Give the ranges, ascending."""
        return tuple(self._ranges)

    def add(self, first: int, last: int) -> None:
        """Add the seqs `first` to `last`."""
        if not self._ranges or first > self._ranges[-1][1] + 1:
            self._ranges.append((first, last))
            return
        kept = [one for one in self._ranges if one[1] + 1 < first or one[0] > last + 1]
        touching = [one for one in self._ranges if not (one[1] + 1 < first or one[0] > last + 1)]
        low = min([first, *(one[0] for one in touching)])
        high = max([last, *(one[1] for one in touching)])
        kept.insert(bisect_right(kept, (low, high)), (low, high))
        self._ranges = kept

    def discard(self, first: int, last: int) -> None:
        """Remove the seqs `first` to `last` where they are in the set."""
        left: list[Range] = []
        for low, high in self._ranges:
            if high < first or low > last:
                left.append((low, high))
                continue
            if low < first:
                left.append((low, first - 1))
            if high > last:
                left.append((last + 1, high))
        self._ranges = left

    def minus(self, other: "SeqSet") -> tuple[Range, ...]:
        """List what is in this set and not in `other`, in one pass over both."""
        left: list[Range] = []
        without, at = other._ranges, 0  # noqa: SLF001 - of the same class
        for first, last in self._ranges:
            start = first
            while at < len(without) and without[at][1] < start:
                at += 1
            nth = at
            while nth < len(without) and without[nth][0] <= last:
                if without[nth][0] > start:
                    left.append((start, without[nth][0] - 1))
                start = without[nth][1] + 1
                nth += 1
            if start <= last:
                left.append((start, last))
        return tuple(left)

    def common(self, first: int, last: int) -> list[Range]:
        """List the parts of `first` to `last` that are in the set."""
        return [
            (max(low, first), min(high, last))
            for low, high in self._ranges
            if low <= last and high >= first
        ]
