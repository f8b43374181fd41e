"""A sealed body to columns, whatever its bytes are: `BatchInvalid` or readings, nothing else."""

import numpy as np
from numpy.typing import NDArray

from shared.batch.layout import (
    MAX_DECOMPRESSED_BYTES,
    MAX_READINGS,
    STATE_LIMIT,
    STATE_NO_VALUE,
    STATE_TEXT,
    Counts,
    Reader,
    Unsigned,
    unseal,
    unzigzag,
)
from shared.batch.numbers import is_known, to_values
from shared.columns import Columns
from shared.errors import BatchInvalid

_INT32_MAX = 2**31 - 1


def decode(
    body: bytes,
    max_bytes: int = MAX_DECOMPRESSED_BYTES,
    max_readings: int = MAX_READINGS,
    *,
    points: int | None = None,
) -> Columns:
    """Read a sealed body: its readings ordered by series, then time.

    `points` is the length of the point set, if it is known: a series outside is refused. Memory is
    bounded by `max_bytes` (decompressed) and `max_readings`. Raises `BatchInvalid` with code
    `not_a_batch`, `unknown_version`, `unknown_kind`, `truncated`, `checksum`, `too_large`,
    `count_mismatch` or `bad_series`.
    """
    payload, count = unseal(body, max_bytes, max_readings)
    reader = Reader(payload)
    counts = reader.counts()
    _check(counts, count)
    names = _series(reader, counts, points)
    groups = _groups(reader, counts)
    sizes = _lengths(reader.column(counts.groups), count)
    lengths = sizes[groups]
    if int(lengths.sum()) != count:
        raise BatchInvalid("count_mismatch", f"{lengths.sum()} readings, {count} declared")
    observed_at = _times(reader, counts, groups, sizes)
    states = _states(reader, counts, count)
    value = _values(reader, states, np.repeat(np.arange(counts.series), lengths))
    texts = _texts(reader, counts, states)
    reader.end()
    return Columns(
        np.repeat(names, lengths),
        observed_at,
        value,
        (states & 0xFFFF).astype(np.uint16),
        texts,
    )


def _check(counts: Counts, count: int) -> None:
    """Refuse counts that cannot be: they bound what is allocated after this."""
    if not counts.groups <= counts.series <= count or max(counts.runs, counts.texts) > count:
        raise BatchInvalid("count_mismatch", f"{counts} in a batch of {count}")
    if bool(counts.groups) != bool(count) or bool(counts.runs) != bool(count):
        raise BatchInvalid("count_mismatch", f"{counts} in a batch of {count}")


def _series(reader: Reader, counts: Counts, points: int | None) -> NDArray[np.int32]:
    if not counts.series:
        return np.zeros(0, np.int32)
    gaps = reader.column(counts.series - 1)
    top = _INT32_MAX if points is None else points - 1
    if gaps.size and int(gaps.max()) > 2**32:
        raise BatchInvalid("bad_series", f"a gap of {gaps.max()} between two series")
    names = counts.first_series + np.concatenate(([0], np.cumsum(gaps.view(np.int64) + 1)))
    if int(names[-1]) > top or (points is not None and counts.first_series < 0):
        raise BatchInvalid("bad_series", f"series {names[0]} to {names[-1]}; at most {top}")
    return names.astype(np.int32)


def _groups(reader: Reader, counts: Counts) -> NDArray[np.int64]:
    """Read each series' group: code 0 opens the next, c is the c-th last opened so far."""
    codes = reader.column(counts.series)
    is_head = codes == 0
    opened = np.cumsum(is_head, dtype=np.int64)
    if counts.series and int(opened[-1]) != counts.groups:
        raise BatchInvalid("count_mismatch", f"{opened[-1]} groups, {counts.groups} declared")
    if bool((codes > opened.view(np.uint64)).any()):
        raise BatchInvalid("not_a_batch", "a series names a group that is not open")
    groups: NDArray[np.int64] = opened - np.where(is_head, 1, codes.view(np.int64))
    return groups


def _lengths(less_one: Unsigned, count: int) -> NDArray[np.int64]:
    """Read lengths of at least 1, none above `count`."""
    if less_one.size and int(less_one.max()) >= count:
        raise BatchInvalid("count_mismatch", f"a length of {less_one.max()} + 1 in {count}")
    return less_one.view(np.int64) + 1


def _times(
    reader: Reader, counts: Counts, groups: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Read the times of each group, then give every series those of its group."""
    if not counts.groups:
        return np.zeros(0, np.int64)
    total = int(sizes.sum())
    ends = np.cumsum(sizes)
    begins = ends - sizes
    steps = np.zeros(total, np.uint64)
    firsts = reader.column(counts.groups)
    is_step = np.ones(total, bool)
    is_step[begins] = False
    steps[is_step] = reader.column(total - counts.groups)
    unit = np.uint64(counts.unit_us)
    climbed = np.cumsum(steps * unit)
    climbed += np.repeat(firsts * unit - climbed[begins], sizes)
    times = (climbed + np.int64(counts.first_us).view(np.uint64)).view(np.int64)
    if bool((times[1:] < times[:-1])[is_step[1:]].any()):
        raise BatchInvalid("not_a_batch", "times that go backwards in a series")
    lengths = sizes[groups]
    offsets = begins[groups] - (np.cumsum(lengths) - lengths)
    rows = np.arange(int(lengths.sum())) + np.repeat(offsets, lengths)
    observed_at: NDArray[np.int64] = times[rows]
    return observed_at


def _states(reader: Reader, counts: Counts, count: int) -> NDArray[np.int64]:
    lengths = _lengths(reader.column(counts.runs), count)
    states = reader.column(counts.runs)
    if int(lengths.sum()) != count:
        raise BatchInvalid("count_mismatch", f"{lengths.sum()} states, {count} readings")
    if states.size and int(states.max()) >= STATE_LIMIT:
        raise BatchInvalid("not_a_batch", f"unknown state {states.max()}")
    return np.repeat(states.view(np.int64), lengths)


def _values(
    reader: Reader, states: NDArray[np.int64], owner: NDArray[np.intp]
) -> NDArray[np.float64]:
    value = np.full(len(states), np.nan)
    has_value = states & STATE_NO_VALUE == 0
    owner = owner[has_value]
    if not len(owner):
        return value
    is_first = np.ones(len(owner), bool)
    is_first[1:] = owner[1:] != owner[:-1]
    rank = np.cumsum(is_first) - 1
    valued = int(rank[-1]) + 1
    kinds = reader.octets(valued)
    widths = reader.octets(valued)
    if not is_known(kinds) or int(widths.max()) > 8:
        raise BatchInvalid("not_a_batch", "a series of unknown kind or width")
    folded = np.zeros(len(owner), np.uint64)
    folded[is_first] = reader.column(valued)
    width_of_step = np.where(is_first, 0, widths[rank])
    for width in np.unique(widths).tolist():
        rows = np.flatnonzero(width_of_step == width)
        if width:
            folded[rows] = reader.planes(len(rows), width)
    integers = np.cumsum(unzigzag(folded))
    begins = np.flatnonzero(is_first)
    before = np.concatenate(([0], integers[begins[1:] - 1]))
    value[has_value] = to_values(integers - before[rank], kinds[rank])
    value[np.isnan(value)] = np.nan
    return value


def _texts(reader: Reader, counts: Counts, states: NDArray[np.int64]) -> dict[int, str]:
    rows = np.flatnonzero(states & STATE_TEXT).tolist()
    if len(rows) != counts.texts:
        raise BatchInvalid("count_mismatch", f"{len(rows)} texts, {counts.texts} declared")
    lengths = reader.column(counts.texts).tolist()
    try:
        return {row: reader.take(size).decode() for row, size in zip(rows, lengths, strict=True)}
    except UnicodeDecodeError as error:
        raise BatchInvalid("not_a_batch", f"a text is not UTF-8: {error}") from error
