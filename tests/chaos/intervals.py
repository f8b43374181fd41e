"""Sets of open intervals of time, as sorted numpy columns."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Disjoint open intervals (start, end) in µs, ascending; two may touch.

    A moment where two of them touch lies in neither: it is where something was delivered.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def union(cls, pairs: Iterable[Pair]) -> "Intervals":
        """Merge intervals that overlap."""
        merged: list[list[int]] = []
        for start, end in sorted(pairs):
            if merged and start < merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            elif end > start:
                merged.append([start, end])
        columns = np.array(merged, np.int64).reshape(-1, 2)
        return cls(columns[:, 0].copy(), columns[:, 1].copy())

    def __len__(self) -> int:
        """Count the intervals."""
        return len(self.starts)

    def hold(self, moments: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell for each moment whether it lies strictly inside one of the intervals."""
        if not len(self):
            return np.zeros(len(moments), np.bool_)
        at = np.searchsorted(self.starts, moments, side="left") - 1
        inside: NDArray[np.bool_] = (at >= 0) & (moments < self.ends[np.maximum(at, 0)])
        return inside

    def pairs(self) -> list[Pair]:
        """List them."""
        return list(zip(self.starts.tolist(), self.ends.tolist(), strict=True))

    def seconds(self) -> float:
        """Sum up their lengths."""
        return float((self.ends - self.starts).sum()) / 1e6

    def without(self, other: "Intervals") -> "Intervals":
        """Give the parts that lie outside all intervals of another set."""
        left: list[Pair] = []
        for first, last in self.pairs():
            start = first
            for other_start, other_end in other.pairs():
                if other_end > start and other_start < last:
                    left.append((start, max(start, other_start)))
                    start = max(start, other_end)
            left.append((start, max(start, last)))
        return Intervals.union(left)
