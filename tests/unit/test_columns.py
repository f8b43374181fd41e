import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.columns import Columns, concatenate


def sample() -> Columns:
    return Columns.of([3, 1, 2], [30, 10, 20], [3.0, np.nan, 2.0], [0, 1, 2], {1: "one", 2: "two"})


def test_columns_have_the_documented_types() -> None:
    columns = sample()
    types = [columns.series.dtype, columns.observed_at.dtype, columns.value.dtype]
    assert [*types, columns.quality.dtype] == ["int32", "int64", "float64", "uint16"]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"differ in length: \(2, 1, 1, 1\)"):
        Columns.of([1, 2], [1], [1.0], [0])


def test_empty_columns_have_no_reading() -> None:
    assert len(Columns.empty()) == 0


def test_a_taken_row_brings_its_text() -> None:
    taken = sample().take(np.array([2, 0, 2]))
    assert taken.series.tolist() == [2, 3, 2]
    assert taken.observed_at.tolist() == [20, 30, 20]
    assert taken.value.tolist() == [2.0, 3.0, 2.0]
    assert taken.quality.tolist() == [2, 0, 2]
    assert taken.texts == {0: "two", 2: "two"}


def test_other_series_name_the_same_readings() -> None:
    renamed = sample().with_series(np.array([7, 8, 9], np.int32))
    assert renamed.series.tolist() == [7, 8, 9]
    assert renamed.texts == {1: "one", 2: "two"}


def test_joined_columns_keep_order_and_texts() -> None:
    joined = concatenate([sample(), Columns.empty(), sample()])
    assert joined.series.tolist() == [3, 1, 2, 3, 1, 2]
    assert joined.texts == {1: "one", 2: "two", 4: "one", 5: "two"}


def test_nothing_joined_is_empty() -> None:
    assert len(concatenate([])) == 0


@given(st.lists(st.integers(0, 5), max_size=5))
def test_joining_and_taking_apart_gives_the_parts(sizes: list[int]) -> None:
    parts = [
        Columns.of(range(size), [at] * size, [0.5] * size, [0] * size, {0: str(at)} if size else {})
        for at, size in enumerate(sizes)
    ]
    joined = concatenate(parts)
    start = 0
    for part in parts:
        again = joined.take(np.arange(start, start + len(part)))
        assert again.series.tolist() == part.series.tolist()
        assert again.observed_at.tolist() == part.observed_at.tolist()
        assert again.texts == part.texts
        start += len(part)
    assert start == len(joined)
