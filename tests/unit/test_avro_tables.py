"""Readings of equal widths are read as tables, and what is between the tables is found too."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.messaging import avro_readings
from central.messaging.avro_tables import FEWEST, PORTION, read_table
from shared.columns import Columns
from tests.unit.avro_kit import assert_read_between, by_fastavro

Run = tuple[int, int, int, int]
"""Readings, and how many bits their point, time and quality have."""
RUNS = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 3), st.integers(FEWEST - 2, 3 * FEWEST)),
        st.sampled_from([5, 12, 30]),
        st.sampled_from([20, 50, 54]),
        st.sampled_from([0, 6, 13, 16]),
    ),
    min_size=1,
    max_size=5,
)


def columns_of(runs: list[Run]) -> Columns:
    rng = np.random.default_rng(3)
    parts: list[tuple[Any, ...]] = [
        (
            rng.integers(1 << point - 1, 1 << point, count),
            rng.integers(1 << time - 1, 1 << time, count),
            rng.integers(0, 2**64, count, np.uint64).view(np.float64),
            rng.integers((1 << quality) // 2, 1 << quality, count),
        )
        for count, point, time, quality in runs
    ]
    series, times, values, qualities = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Columns.of(series, times, values, qualities)


@given(RUNS, st.binary(max_size=9), st.binary(max_size=9))
def test_tables_and_what_is_between_them_come_back(
    runs: list[Run], before: bytes, after: bytes
) -> None:
    assert_read_between(columns_of(runs), before, after)


@pytest.mark.parametrize("rows", [FEWEST, PORTION - 1, PORTION, PORTION + 1, 3 * PORTION])
def test_a_table_ends_where_the_widths_change(rows: int) -> None:
    array = by_fastavro(columns_of([(rows, 12, 50, 0), (FEWEST, 12, 50, 13)]))

    found = read_table(array, 2, rows + FEWEST)  # behind the count, which has two bytes

    assert found is not None
    assert len(found[0]) == min(rows, PORTION)
    assert found[1] == 2 + len(found[0]) * (2 + 8 + 8 + 1)


def test_a_short_table_is_left_to_others() -> None:
    array = by_fastavro(columns_of([(FEWEST - 1, 12, 50, 0), (FEWEST, 12, 50, 13)]))

    assert read_table(array, 2, 2 * FEWEST - 1) is None


def test_a_table_that_is_cut_off_ends_before_the_cut() -> None:
    array = by_fastavro(columns_of([(100, 12, 50, 0)]))

    found = read_table(array[:-10], 2, 100)

    assert found is not None
    assert len(found[0]) == 99
    assert avro_readings.decode(array[:-10], 0) is None
