"""Columns to a sealed body."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.batch.layout import (
    STATE_NO_VALUE,
    STATE_TEXT,
    Counts,
    Unsigned,
    column,
    planes,
    seal,
    widths_of,
    zigzag,
)
from shared.batch.numbers import choose_kinds, to_integers
from shared.columns import Columns

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def encode(columns: Columns, level: int = 3) -> bytes:
    """Seal readings: `decode` gives the same readings to the bit, ordered by series, then time.

    Readings of one series and time keep their order. Every NaN means "no value" and comes back as
    the one canonical NaN; a lone surrogate in a text becomes `?`. The same readings in the same
    order give the same bytes with the same zstd library. Raises ValueError if a text names a row
    that is not there, or if there is more than `decode` takes: cut the batch smaller.
    """
    count = len(columns)
    if any(not 0 <= row < count for row in columns.texts):
        msg = f"a text names a row outside the {count} readings"
        raise ValueError(msg)
    rows = _order(columns.series, columns.observed_at)
    readings = columns if rows is None else columns.take(rows)
    starts = _starts(readings.series)
    lengths = _lengths(starts, count)
    groups = _groups(readings.observed_at, starts, lengths)
    states = _states(readings)
    runs = _starts(states)
    series = readings.series[starts].astype(np.int64)
    times, first_us, unit_us = _times(readings.observed_at, starts, lengths, groups)
    counts = Counts(
        series=len(starts),
        groups=len(groups.heads),
        runs=len(runs),
        texts=len(readings.texts),
        first_series=int(series[0]) if count else 0,
        first_us=first_us,
        unit_us=unit_us,
    )
    payload = b"".join(
        (
            counts.pack(),
            column((series[1:] - series[:-1] - 1).view(np.uint64)),
            column(groups.codes),
            column((lengths[groups.heads] - 1).view(np.uint64)),
            times,
            column((_lengths(runs, count) - 1).view(np.uint64)),
            column(states[runs].astype(np.uint64)),
            _values(readings.value, np.repeat(np.arange(len(starts)), lengths)),
            _texts(readings),
        )
    )
    return seal(payload, count, level)


def _order(series: NDArray[np.int32], observed_at: NDArray[np.int64]) -> NDArray[np.intp] | None:
    """Find the order by series, then time; None if the readings are in it already."""
    if _is_ordered(series, observed_at):
        return None
    first = int(series.min())
    if int(series.max()) - first < 1 << 16:  # numpy sorts 16 bits by radix, four times faster
        rows = np.argsort((series - np.int32(first)).astype(np.uint16), kind="stable")
    else:
        rows = np.argsort(series, kind="stable")
    if _is_ordered(series[rows], observed_at[rows]):
        return rows
    return np.lexsort((observed_at, series))


def _is_ordered(series: NDArray[np.int32], observed_at: NDArray[np.int64]) -> bool:
    later = observed_at[1:] >= observed_at[:-1]
    return bool(((series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & later)).all())


def _starts(numbers: NDArray[np.integer]) -> NDArray[np.intp]:
    """Find where runs of equal numbers begin."""
    if not len(numbers):
        return np.zeros(0, np.intp)
    begins = np.empty(len(numbers), bool)
    begins[0] = True
    np.not_equal(numbers[1:], numbers[:-1], out=begins[1:])
    return np.flatnonzero(begins)


def _lengths(starts: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Tell how long the runs are that begin at `starts`."""
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = count - starts[-1:]
    return lengths


@dataclass(frozen=True, slots=True)
class _Groups:
    """Series that were read together: `heads` is the first series of each group."""

    heads: NDArray[np.intp]
    codes: Unsigned


def _groups(
    observed_at: NDArray[np.int64], starts: NDArray[np.intp], lengths: NDArray[np.intp]
) -> _Groups:
    """Find the series with equal times, by a hash that is verified."""
    if not len(starts):
        return _Groups(np.zeros(0, np.intp), np.zeros(0, np.uint64))
    mixed = observed_at.view(np.uint64) * _MIX
    mixed = (mixed ^ (mixed >> _SHIFT)) * _MIX
    hashes = np.add.reduceat(mixed, starts) + lengths.view(np.uint64)
    runs = _starts(hashes)
    of_run = hashes[runs]
    order = np.argsort(of_run, kind="stable")
    first = order[np.searchsorted(of_run[order], of_run)]
    heads = np.repeat(runs[first], _lengths(runs, len(starts)))
    if not _is_shared(observed_at, starts, lengths, heads):
        heads = np.arange(len(starts))
    return _number(heads)


def _is_shared(
    observed_at: NDArray[np.int64],
    starts: NDArray[np.intp],
    lengths: NDArray[np.intp],
    heads: NDArray[np.intp],
) -> bool:
    """Tell whether each series has the very times of its head."""
    if not np.array_equal(lengths, lengths[heads]):
        return False
    twins = np.arange(len(observed_at)) + np.repeat(starts[heads] - starts, lengths)
    return np.array_equal(observed_at, observed_at[twins])


def _number(heads: NDArray[np.intp]) -> _Groups:
    """Code each series' group: 0 opens the next group, c is the c-th last opened so far."""
    is_head = heads == np.arange(len(heads))
    opened = np.cumsum(is_head)
    codes = opened - (opened[heads] - 1)
    codes[is_head] = 0
    return _Groups(np.flatnonzero(is_head), codes.view(np.uint64))


def _times(
    observed_at: NDArray[np.int64],
    starts: NDArray[np.intp],
    lengths: NDArray[np.intp],
    groups: _Groups,
) -> tuple[bytes, int, int]:
    """Write each group's first time and the steps after it; tell the base and unit of them."""
    if not len(starts):
        return b"", 0, 1
    begins = starts[groups.heads]
    first_us = int(observed_at[begins].min())
    firsts = observed_at[begins].view(np.uint64) - np.int64(first_us).view(np.uint64)
    steps = _group_rows(observed_at, begins, lengths[groups.heads])
    unit = np.gcd(np.gcd.reduce(firsts), np.gcd.reduce(steps)) or np.uint64(1)
    return column(firsts // unit) + column(steps // unit), first_us, int(unit)


def _group_rows(
    observed_at: NDArray[np.int64], begins: NDArray[np.intp], lengths: NDArray[np.intp]
) -> Unsigned:
    """List the steps between the times of each group, group after group."""
    owner = np.repeat(np.arange(len(begins)), lengths)
    ends = np.cumsum(lengths)
    rows = np.arange(len(owner)) + (begins - (ends - lengths))[owner]
    times = observed_at[rows].view(np.uint64)
    steps: Unsigned = (times[1:] - times[:-1])[owner[1:] == owner[:-1]]
    return steps


def _states(readings: Columns) -> NDArray[np.int64]:
    """Join quality, "no value" and "has a text" into one number a reading."""
    states = readings.quality.astype(np.int64)
    states[np.isnan(readings.value)] |= STATE_NO_VALUE
    if readings.texts:
        states[list(readings.texts)] |= STATE_TEXT
    return states


def _values(value: NDArray[np.float64], owner: NDArray[np.intp]) -> bytes:
    """Write the values that there are: per series kind, width, first, and the steps by width."""
    has_value = ~np.isnan(value)
    if not has_value.all():
        value = value[has_value]
        owner = owner[has_value]
    starts = _starts(owner)
    if not len(starts):
        return b""
    owner = np.repeat(np.arange(len(starts)), _lengths(starts, len(value)))
    kinds = choose_kinds(value, owner, starts)
    integers = to_integers(value, kinds[owner])
    steps = zigzag(integers[1:] - integers[:-1])
    is_step = owner[1:] == owner[:-1]
    widths = widths_of(_largest(np.where(is_step, steps, np.uint64(0)), starts))
    parts = [kinds.tobytes(), widths.astype(np.uint8).tobytes(), column(zigzag(integers[starts]))]
    width_of_step = np.where(is_step, widths[owner[1:]], 0)
    used = np.bincount(widths, minlength=9)
    parts.extend(
        planes(steps[width_of_step == width], width) for width in range(1, 9) if used[width]
    )
    return b"".join(parts)


def _largest(steps: Unsigned, starts: NDArray[np.intp]) -> Unsigned:
    """Find the largest step of each series; 0 where it has none."""
    padded = np.zeros(len(steps) + 1, np.uint64)
    padded[1:] = steps
    largest: Unsigned = np.maximum.reduceat(padded, starts)
    return largest


def _texts(readings: Columns) -> bytes:
    if not readings.texts:
        return b""
    texts = [readings.texts[row].encode(errors="replace") for row in sorted(readings.texts)]
    return column(np.array([len(text) for text in texts], np.uint64)) + b"".join(texts)
