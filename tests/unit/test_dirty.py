"""Marks of what changed: each (minute, block) once, whatever the times and points are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from central.storage.collapse import collapse
from central.storage.dirty import MINUTE_US, marks_of
from shared.clock import EARLIEST_US, LATEST_US
from shared.columns import Columns

POINTS = st.one_of(st.integers(1, 600), st.integers(-(2**31), 2**31 - 1))
TIMES = st.one_of(st.integers(-(10**9), 10**9), st.integers(EARLIEST_US, LATEST_US))


@given(st.lists(st.tuples(POINTS, TIMES), min_size=1, max_size=60))
def test_every_minute_and_block_is_marked_once(readings: list[tuple[int, int]]) -> None:
    points, times = zip(*readings, strict=True)
    rows = collapse([Columns.of(points, times, np.zeros(len(points)), [0] * len(points))])

    minutes, blocks = marks_of(rows)

    marks = list(zip(minutes.tolist(), blocks.tolist(), strict=True))
    assert sorted(marks) == sorted({(at // MINUTE_US, point >> 8) for point, at in readings})
