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

AHEAD_US: Final = 2 * MICROSECONDS
"""A last time so far ahead of the clock was stamped by a clock that has been set right since."""

_TIME_FLAGS: Final = int(Flag.TIME_ADJUSTED | Flag.CLOCK_UNSYNCHRONISED)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Readings fit to be sealed, in ascending time per series; how many repeats were dropped.

    `restarted` are series whose last time lay ahead of the clock and whose time went back: from
    here on they count anew, for else they would stand still until the clock is there again.
    """

    columns: Columns
    repeats: int
    restarted: tuple[int, ...] = ()


def clean(columns: Columns, tail: Tail, now_us: int, flags: int = 0) -> Cleaned:
    """Apply the rules to readings in the order they arrived; `flags` are added to each quality."""
    with_values = _with_clean_values(columns, flags)
    with_times = _with_possible_times(with_values, now_us)
    return _in_order(with_times, tail, now_us)


def is_possible(observed_at: NDArray[np.int64], now_us: int) -> NDArray[np.bool_]:
    """Tell which times can be: not ten years old, nor more than an hour ahead."""
    return (observed_at >= now_us - PAST_US) & (observed_at <= now_us + FUTURE_US)


def _with_clean_values(columns: Columns, flags: int) -> Columns:
    value, quality = columns.value, columns.quality
    texts = {
        row: _storable(text) for row, text in columns.texts.items() if len(text) <= TEXT_LENGTH
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


def _storable(text: str) -> str:
    # JSON can spell half a character, which no encoding can carry: it is sealed as "?".
    whole = text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
    # No database column of text takes U+0000.
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _with_possible_times(columns: Columns, now_us: int) -> Columns:
    at = columns.observed_at
    wrong = ~is_possible(at, now_us)
    if not wrong.any():
        return columns
    quality = np.where(wrong, columns.quality | np.uint16(Flag.TIME_ADJUSTED), columns.quality)
    return Columns(
        columns.series, np.where(wrong, now_us, at), columns.value, quality, columns.texts
    )


def _in_order(columns: Columns, tail: Tail, now_us: int) -> Cleaned:
    order = np.argsort(columns.series, kind="stable")
    series, at = columns.series[order], columns.observed_at[order]
    first = np.ones(len(series), np.bool_)
    first[1:] = series[1:] != series[:-1]
    before = np.empty(len(series), np.int64)
    before[1:] = at[:-1]
    before[first] = tail.last_at[series[first]]
    if (at > before).all():
        return Cleaned(columns, 0)
    return _reordered(columns, tail, np.unique(series[at <= before]).tolist(), now_us)


def _reordered(columns: Columns, tail: Tail, wrong: list[int], now_us: int) -> Cleaned:
    order = _Order(columns, tail, now_us)
    restarted = tuple(series for series in wrong if order.mend(series))
    kept = np.flatnonzero(order.keep)
    changed = Columns(columns.series, order.at, columns.value, order.quality, columns.texts)
    return Cleaned(changed.take(kept), len(columns) - len(kept), restarted)


class _Order:
    """Times of some readings as they are mended, series by series."""

    def __init__(self, columns: Columns, tail: Tail, now_us: int) -> None:
        self.at, self.quality = columns.observed_at.copy(), columns.quality.copy()
        self.keep = np.ones(len(columns), np.bool_)
        self._columns = columns
        self._tail = tail
        self._ahead_us = now_us + AHEAD_US

    def mend(self, series: int) -> bool:
        """Mend the times of one series; tell whether they begin anew."""
        tail, columns, restarted = self._tail, self._columns, False
        last_at = int(tail.last_at[series])
        last = _seen(tail.last_value[series], tail.last_quality[series], tail.last_text.get(series))
        for row in np.flatnonzero(columns.series == series).tolist():
            this = _seen(columns.value[row], self.quality[row], columns.texts.get(row))
            at = int(self.at[row])
            is_anew = at < last_at and last_at > self._ahead_us
            if at <= last_at and not is_anew:
                if this == last:
                    self.keep[row] = False
                    continue
                at = last_at + 1
            if at != self.at[row] or is_anew:
                self.quality[row] |= Flag.TIME_ADJUSTED
            restarted |= is_anew
            self.at[row] = last_at = at
            last = this
        return restarted


def _seen(value: np.float64, quality: np.uint16, text: str | None) -> tuple[bytes, int, str | None]:
    """What makes two readings of a series the same but for their time."""
    return value.tobytes(), int(quality) & ~_TIME_FLAGS, text
