"""Rollups as columns: what the readings of one point in one window of time amount to."""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

ROLLUP: Final = np.dtype(
    [
        ("series", "<i4"),
        ("start", "<i8"),
        ("width", "<i8"),
        ("count", "<i4"),
        ("good_count", "<i4"),
        ("sum", "<f8"),
        ("min", "<f8"),
        ("max", "<f8"),
        ("mean", "<f8"),
        ("first", "<f8"),
        ("last", "<f8"),
        ("first_at", "<i8"),
        ("last_at", "<i8"),
        ("known", "<i8"),
    ]
)
"""One rollup: times and durations in microseconds, UTC; a number that is not there is NaN.

`count` has every reading of the window; all else is of the good ones that are finite numbers.
`mean` is weighted by time over the `known` part of the window, in which the value is that of the
last good reading.
"""

_KEY: Final = ("series", "width", "start")

Rollups = NDArray[np.void]
"""Rows of `ROLLUP`."""


def coverage(rollups: Rollups) -> NDArray[np.float64]:
    """Tell which fraction of its window each rollup knows the value of."""
    shares: NDArray[np.float64] = rollups["known"] / rollups["width"]
    return shares


def no_rollups() -> Rollups:
    """Make rows of `ROLLUP` without a row."""
    return np.zeros(0, ROLLUP)


def combined(rollups: Rollups) -> Rollups:
    """Add up the rows of one series and window; sorted by series, width and start.

    A window has several where it was told in parts: before and after a stop, or for late readings.
    """
    order = np.lexsort((rollups["start"], rollups["width"], rollups["series"]))
    rows = rollups[order]
    is_first = np.ones(len(rows), np.bool_)
    for at, (before, after) in enumerate(pairwise(rows[list(_KEY)].tolist()), start=1):
        is_first[at] = before != after
    starts = np.flatnonzero(is_first)
    if len(starts) == len(rows):
        return rows
    sums = rows[starts].copy()
    for name in ("count", "good_count", "sum", "known"):
        sums[name] = np.add.reduceat(rows[name], starts)
    sums["min"] = np.fmin.reduceat(rows["min"], starts)
    sums["max"] = np.fmax.reduceat(rows["max"], starts)
    sums["mean"] = _mean(rows, starts, sums["known"])
    _take_ends(sums, rows, starts)
    return sums


def _mean(rows: Rollups, starts: NDArray[np.intp], known: NDArray[np.int64]) -> NDArray[np.float64]:
    lengths = np.diff(np.append(starts, len(rows)))
    share = rows["known"] / np.repeat(np.maximum(known, 1), lengths)
    weighted = np.where(rows["known"] > 0, rows["mean"], 0.0) * share
    mean: NDArray[np.float64] = np.add.reduceat(weighted, starts)
    return np.where(known > 0, mean, np.nan)


def _take_ends(sums: Rollups, rows: Rollups, starts: NDArray[np.intp]) -> None:
    """Find the first and the last good reading of the rows that are one."""
    for at, (begin, end) in enumerate(pairwise([*starts.tolist(), len(rows)])):
        good = rows[begin:end][rows["good_count"][begin:end] > 0]
        if len(good):
            first, last = good[good["first_at"].argmin()], good[good["last_at"].argmax()]
            sums["first"][at], sums["first_at"][at] = first["first"], first["first_at"]
            sums["last"][at], sums["last_at"][at] = last["last"], last["last_at"]
