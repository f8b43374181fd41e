"""Rows of several batches become one row per (point, observed_at), whoever came first."""

import math
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from central.storage.collapse import collapse
from shared.columns import Columns

row = st.tuples(
    st.integers(1, 3),
    st.integers(0, 4),
    st.sampled_from([1.0, 2.0, math.nan, -math.inf]),
    st.sampled_from([0, 0x0800, 0x1000, 0x2003, 0x3000]),
)
batches = st.lists(st.lists(row, max_size=12), min_size=1, max_size=5)


def columns_of(rows: list[tuple[int, int, float, int]]) -> Columns:
    return Columns.of(
        [item[0] for item in rows],
        [item[1] for item in rows],
        [item[2] for item in rows],
        [item[3] for item in rows],
    )


def survivors(parts: list[list[tuple[int, int, float, int]]]) -> list[tuple[int, int, str, int]]:
    rows = collapse([columns_of(part) for part in parts]).columns
    return [
        (point, at, repr(value), quality)
        for point, at, value, quality in zip(
            rows.series.tolist(),
            rows.observed_at.tolist(),
            rows.value.tolist(),
            rows.quality.tolist(),
            strict=True,
        )
    ]


@given(batches, st.randoms())
def test_the_survivors_are_the_same_in_any_order(
    parts: list[list[tuple[int, int, float, int]]], random: Random
) -> None:
    mixed = [item for part in parts for item in part]
    random.shuffle(mixed)

    assert survivors(parts) == survivors([mixed])


@given(batches)
def test_each_pair_is_there_once_sorted_and_belongs_to_its_first_batch(
    parts: list[list[tuple[int, int, float, int]]],
) -> None:
    rows = collapse([columns_of(part) for part in parts])

    pairs = list(zip(rows.columns.series.tolist(), rows.columns.observed_at.tolist(), strict=True))
    assert pairs == sorted({(item[0], item[1]) for part in parts for item in part})
    for pair, batch in zip(pairs, rows.batch.tolist(), strict=True):
        first = next(at for at, part in enumerate(parts) if any(item[:2] == pair for item in part))
        assert batch == first


def test_a_text_stays_with_the_row_that_survives() -> None:
    one = Columns.of([1, 2], [5, 5], [math.nan, math.nan], [0, 0], {0: "a", 1: "z"})
    two = Columns.of([2, 1], [5, 5], [math.nan, math.nan], [0, 0], {0: "y", 1: "b"})

    rows = collapse([one, two])

    assert rows.columns.texts == {0: "b", 1: "z"}
    assert np.array_equal(rows.batch, [0, 0])
