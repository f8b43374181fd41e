"""The shape of a body: which series it holds, and which of its times each reading has.

Polls of one plan have the same shape over and over, so those of small bodies are kept.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.batch.layout import Counts, Reader, Unsigned, unpack
from shared.errors import BatchInvalid

KEPT_SHAPES: Final = 256
KEPT_READINGS: Final = 4_096
"""Bodies of more readings are few; together with the number kept this bounds the memory: 32 MB."""
_INT32_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What sections 1 to 4 say; the arrays are shared by all bodies of this shape.

    `series` has the series of each reading, `times` the index of each reading's time; `lengths` the
    readings of each series. Of the times, `firsts` are the first of each group, `steps` the others.
    """

    series: NDArray[np.int32]
    times: NDArray[np.intp]
    lengths: NDArray[np.intp]
    firsts: NDArray[np.intp]
    steps: NDArray[np.intp]

    @property
    def highest(self) -> int:
        """The highest series; -1 where there is none."""
        return int(self.series[-1]) if len(self.series) else -1


def read_shape(reader: Reader, counts: Counts, count: int, points: int | None) -> Shape:
    """Read sections 2 to 4 of a body of `count` readings; `points` is the point set's length."""
    _check(counts, count)
    names = reader.packed(max(counts.series - 1, 0))
    groups = reader.packed(counts.series)
    sizes = reader.packed(counts.groups)
    make = _shape if count <= KEPT_READINGS else _shape.__wrapped__
    shape = make((counts.series, counts.groups, counts.first_series, count), names, groups, sizes)
    top = _INT32_MAX if points is None else points - 1
    if shape.highest > top or (points is not None and count and counts.first_series < 0):
        raise BatchInvalid(
            "bad_series", f"series {counts.first_series} to {shape.highest}; at most {top}"
        )
    return shape


def lengths_of(less_one: Unsigned, count: int) -> NDArray[np.intp]:
    """Read lengths of at least 1, none above `count`."""
    if less_one.size and int(less_one.max()) >= count:
        raise BatchInvalid("count_mismatch", f"a length of {less_one.max()} + 1 in {count}")
    return less_one.view(np.int64) + 1


def _check(counts: Counts, count: int) -> None:
    """Refuse counts that cannot be: they bound what is allocated after this."""
    if not counts.groups <= counts.series <= count or max(counts.runs, counts.texts) > count:
        raise BatchInvalid("count_mismatch", f"{counts} in a batch of {count}")
    if bool(counts.groups) != bool(count) or bool(counts.runs) != bool(count):
        raise BatchInvalid("count_mismatch", f"{counts} in a batch of {count}")


@lru_cache(KEPT_SHAPES)
def _shape(head: tuple[int, int, int, int], names: bytes, groups: bytes, sizes: bytes) -> Shape:
    """Make a shape of its counts (series, groups, first series, readings) and packed sections."""
    series, opened, first, count = head
    group_of = _groups(unpack(groups, series), opened)
    size_of = lengths_of(unpack(sizes, opened), count)
    lengths = size_of[group_of]
    if int(lengths.sum()) != count:
        raise BatchInvalid("count_mismatch", f"{lengths.sum()} readings, {count} declared")
    firsts = np.cumsum(size_of) - size_of
    is_step = np.ones(int(size_of.sum()), bool)
    is_step[firsts] = False
    offsets = firsts[group_of] - (np.cumsum(lengths) - lengths)
    shape = Shape(
        np.repeat(_names(unpack(names, max(series - 1, 0)), first, series), lengths),
        np.arange(count) + np.repeat(offsets, lengths),
        lengths,
        firsts,
        np.flatnonzero(is_step),
    )
    for column in (shape.series, shape.times, shape.lengths, shape.firsts, shape.steps):
        column.flags.writeable = False
    return shape


def _names(gaps: Unsigned, first: int, series: int) -> NDArray[np.int32]:
    if not series:
        return np.zeros(0, np.int32)
    if gaps.size and int(gaps.max()) > 2**32:
        raise BatchInvalid("bad_series", f"a gap of {gaps.max()} between two series")
    names = first + np.concatenate(([0], np.cumsum(gaps.view(np.int64) + 1)))
    if int(names[-1]) > _INT32_MAX:
        raise BatchInvalid("bad_series", f"series {first} to {names[-1]}; at most {_INT32_MAX}")
    return names.astype(np.int32)


def _groups(codes: Unsigned, groups: int) -> NDArray[np.intp]:
    """Read each series' group: code 0 opens the next, c is the c-th last opened so far."""
    is_head = codes == 0
    opened = np.cumsum(is_head, dtype=np.intp)
    if len(codes) and int(opened[-1]) != groups:
        raise BatchInvalid("count_mismatch", f"{opened[-1]} groups, {groups} declared")
    if bool((codes > opened.view(np.uint64)).any()):
        raise BatchInvalid("not_a_batch", "a series names a group that is not open")
    group_of: NDArray[np.intp] = opened - np.where(is_head, 1, codes.view(np.int64))
    return group_of
