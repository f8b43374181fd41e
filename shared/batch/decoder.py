"""A sealed body to columns, whatever its bytes are: `BatchInvalid` or readings, nothing else."""

import numpy as np
from numpy.typing import NDArray

from shared.batch.layout import (
    MAX_DECOMPRESSED_BYTES,
    MAX_READINGS,
    STATE_LIMIT,
    STATE_NO_VALUE,
    STATE_TEXT,
    UINT64,
    Counts,
    Reader,
    unseal,
    unzigzag,
)
from shared.batch.numbers import is_known, to_values
from shared.batch.shape import Shape, lengths_of, read_shape
from shared.columns import Columns
from shared.errors import BatchInvalid

Runs = tuple[NDArray[np.int64], NDArray[np.intp]]
"""The state of each run, and how many readings it has."""


def decode(
    body: bytes,
    max_bytes: int = MAX_DECOMPRESSED_BYTES,
    max_readings: int = MAX_READINGS,
    *,
    points: int | None = None,
) -> Columns:
    """Read a sealed body: its readings ordered by series, then time.

    `points` is the length of the point set, if it is known: a series outside is refused. Memory is
    bounded by `max_bytes` (decompressed) and `max_readings`. The column `series` may be shared with
    other bodies and cannot be written to. Raises `BatchInvalid` with code `not_a_batch`,
    `unknown_version`, `unknown_kind`, `truncated`, `checksum`, `too_large`, `count_mismatch` or
    `bad_series`.
    """
    payload, count = unseal(body, max_bytes, max_readings)
    reader = Reader(payload)
    counts = reader.counts()
    shape = read_shape(reader, counts, count, points)
    observed_at = _times(reader, counts, shape)
    states, runs = _states(reader, counts, count)
    value = _values(reader, shape, (states, runs), count)
    texts = _texts(reader, counts, (states, runs))
    reader.end()
    quality = np.repeat((states & 0xFFFF).astype(np.uint16), runs)
    return Columns(shape.series, observed_at, value, quality, texts)


def _times(reader: Reader, counts: Counts, shape: Shape) -> NDArray[np.int64]:
    """Read the times of each group, then give every reading its own."""
    times = np.zeros(len(shape.firsts) + len(shape.steps), UINT64)
    times[shape.firsts] = reader.column(len(shape.firsts))
    times[shape.steps] = reader.column(len(shape.steps))
    if counts.unit_us != 1:
        times *= np.uint64(counts.unit_us)
    _climb(times, shape.firsts)
    times += np.int64(counts.first_us).view(np.uint64)
    climbed = times.view(np.int64)
    if bool((climbed[shape.steps] < climbed[shape.steps - 1]).any()):
        raise BatchInvalid("not_a_batch", "times that go backwards in a series")
    return climbed[shape.times]


def _climb(numbers: NDArray[np.uint64] | NDArray[np.int64], begins: NDArray[np.intp]) -> None:
    """Add up in place, anew from each beginning, modulo 2**64."""
    if len(begins) > 1:
        numbers[begins[1:]] -= np.add.reduceat(numbers, begins)[:-1]
    np.cumsum(numbers, out=numbers)


def _states(reader: Reader, counts: Counts, count: int) -> Runs:
    lengths = lengths_of(reader.column(counts.runs), count)
    states = reader.column(counts.runs)
    if int(lengths.sum()) != count:
        raise BatchInvalid("count_mismatch", f"{lengths.sum()} states, {count} readings")
    if states.size and int(states.max()) >= STATE_LIMIT:
        raise BatchInvalid("not_a_batch", f"unknown state {states.max()}")
    return states.view(np.int64), lengths


def _values(reader: Reader, shape: Shape, states: Runs, count: int) -> NDArray[np.float64]:
    is_none = states[0] & STATE_NO_VALUE != 0
    if not is_none.any():
        return _numbers(reader, shape.lengths)
    value = np.full(count, np.nan)
    has_value = np.repeat(~is_none, states[1])
    owner = np.repeat(np.arange(len(shape.lengths)), shape.lengths)[has_value]
    lengths = np.bincount(owner)
    value[has_value] = _numbers(reader, lengths[lengths > 0])
    return value


def _numbers(reader: Reader, lengths: NDArray[np.intp]) -> NDArray[np.float64]:
    """Read the values of series that have so many each."""
    if not len(lengths):
        return np.zeros(0)
    kinds = reader.octets(len(lengths))
    widths = reader.octets(len(lengths))
    begins = np.cumsum(lengths) - lengths
    found = set(widths.tolist())
    if not is_known(kinds) or max(found) > 8:
        raise BatchInvalid("not_a_batch", "a series of unknown kind or width")
    folded = np.zeros(int(lengths.sum()), UINT64)
    folded[begins] = reader.column(len(lengths))
    width_of_step = np.repeat(widths, lengths)
    width_of_step[begins] = 0
    for width in sorted(found - {0}):
        rows = np.flatnonzero(width_of_step == width)
        folded[rows] = reader.planes(len(rows), width)
    integers = unzigzag(folded)
    _climb(integers, begins)
    return to_values(integers, kinds, lengths)


def _texts(reader: Reader, counts: Counts, states: Runs) -> dict[int, str]:
    is_text = states[0] & STATE_TEXT != 0
    rows = np.flatnonzero(np.repeat(is_text, states[1])).tolist() if is_text.any() else []
    if len(rows) != counts.texts:
        raise BatchInvalid("count_mismatch", f"{len(rows)} texts, {counts.texts} declared")
    lengths = reader.column(counts.texts).tolist()
    try:
        return {row: reader.take(size).decode() for row, size in zip(rows, lengths, strict=True)}
    except UnicodeDecodeError as error:
        raise BatchInvalid("not_a_batch", f"a text is not UTF-8: {error}") from error
