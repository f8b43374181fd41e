"""Making readings clean, so that no device can poison a batch: values, times, and their order.

The rules are those of the design: what is not a finite number is bad; a time that cannot be is
the gateway's; per series the time goes strictly upwards, and an identical
repeat is dropped and counted.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.tail import Tail
from shared.clock import MICROSECONDS
from shared.columns import Columns
from shared.quality import CLASS_SHIFT, Flag, Reason, bad

TEXT_LENGTH: Final = 8_192
"""A longer text becomes a bad reading: it would take the place of thousands of numbers."""

PAST_US: Final = 10 * 365 * 86_400 * MICROSECONDS
FUTURE_US: Final = 3_600 * MICROSECONDS

_TIME_FLAGS: Final = int(Flag.TIME_ADJUSTED | Flag.CLOCK_UNSYNCHRONISED)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Readings fit to be sealed, in ascending time per series; how many repeats were dropped."""

    columns: Columns
    repeats: int


def clean(columns: Columns, tail: Tail, now_us: int, flags: int = 0) -> Cleaned:
    """Apply the rules to readings in the order they arrived; `flags` are added to each quality."""
    with_values = _with_clean_values(columns, flags)
    with_times = _with_possible_times(with_values, now_us)
    return _in_order(with_times, tail)


def _with_clean_values(columns: Columns, flags: int) -> Columns:
    value, quality = columns.value, columns.quality
    texts = {
        row: _without_surrogates(text)
        for row, text in columns.texts.items()
        if len(text) <= TEXT_LENGTH
    }
    is_text = np.zeros(len(columns), np.bool_)
    is_text[list(texts)] = True
    too_long = [row for row in columns.texts if row not in texts]
    if too_long:
        quality = quality.copy()
        quality[too_long] = bad(Reason.TOO_LONG)
    strange = ~np.isfinite(value)
    if strange.any():
        good = (quality >> CLASS_SHIFT) < 2
        quality = np.where(strange & good & ~is_text, bad(Reason.NOT_A_NUMBER), quality)
        value = np.where(strange, np.nan, value)
    if flags:
        quality = quality | np.uint16(flags)
    return Columns(
        columns.series, columns.observed_at, value, quality.astype(np.uint16, copy=False), texts
    )


def _without_surrogates(text: str) -> str:
    # JSON can spell half a character, which no encoding can carry: it is sealed as "?".
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _with_possible_times(columns: Columns, now_us: int) -> Columns:
    at = columns.observed_at
    wrong = (at < now_us - PAST_US) | (at > now_us + FUTURE_US)
    if not wrong.any():
        return columns
    quality = np.where(wrong, columns.quality | np.uint16(Flag.TIME_ADJUSTED), columns.quality)
    return Columns(
        columns.series, np.where(wrong, now_us, at), columns.value, quality, columns.texts
    )


def _in_order(columns: Columns, tail: Tail) -> Cleaned:
    order = np.argsort(columns.series, kind="stable")
    series, at = columns.series[order], columns.observed_at[order]
    first = np.ones(len(series), np.bool_)
    first[1:] = series[1:] != series[:-1]
    before = np.empty(len(series), np.int64)
    before[1:] = at[:-1]
    before[first] = tail.last_at[series[first]]
    if (at > before).all():
        return Cleaned(columns, 0)
    return _reordered(columns, tail, set(np.unique(series[at <= before]).tolist()))


def _reordered(columns: Columns, tail: Tail, wrong: set[int]) -> Cleaned:
    at, quality = columns.observed_at.copy(), columns.quality.copy()
    keep = np.ones(len(columns), np.bool_)
    for series in wrong:
        rows = np.flatnonzero(columns.series == series)
        _put_in_order(columns, tail, rows, (at, quality, keep))
    changed = Columns(columns.series, at, columns.value, quality, columns.texts)
    kept = np.flatnonzero(keep)
    return Cleaned(changed.take(kept), len(columns) - len(kept))


def _put_in_order(
    columns: Columns,
    tail: Tail,
    rows: NDArray[np.intp],
    out: tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.bool_]],
) -> None:
    at, quality, keep = out
    series = int(columns.series[rows[0]])
    last_at = int(tail.last_at[series])
    last = _seen(tail.last_value[series], tail.last_quality[series], tail.last_text.get(series))
    for row in rows.tolist():
        this = _seen(columns.value[row], quality[row], columns.texts.get(row))
        if at[row] > last_at:
            last_at = int(at[row])
        elif this == last:
            keep[row] = False
            continue
        else:
            last_at += 1
            at[row] = last_at
            quality[row] |= Flag.TIME_ADJUSTED
        last = this


def _seen(value: np.float64, quality: np.uint16, text: str | None) -> tuple[bytes, int, str | None]:
    """What makes two readings of a series the same but for their time."""
    return value.tobytes(), int(quality) & ~_TIME_FLAGS, text
