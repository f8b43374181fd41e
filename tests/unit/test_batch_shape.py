"""Bodies of one shape share its arrays, and only small ones are kept."""

import numpy as np
import pytest

from shared.batch import decode, encode
from shared.batch.shape import KEPT_READINGS
from shared.columns import Columns
from shared.errors import BatchInvalid


def polls(rows: int, series: int = 4, start: float = 0.0) -> Columns:
    values = start + np.arange(rows * series) / 10
    times = np.repeat(1_700_000_000_000_000 + np.arange(rows) * 1_000_000, series)
    return Columns.of(
        np.tile(np.arange(series), rows), times, values, np.zeros(rows * series, np.uint16)
    )


def test_bodies_of_one_shape_share_their_series_and_nothing_else() -> None:
    first = decode(encode(polls(10)))
    second = decode(encode(polls(10, start=70.0)))

    assert first.series is second.series
    assert (first.value.min(), second.value.min()) == (0.0, 70.0)
    assert first.observed_at is not second.observed_at


def test_what_is_shared_cannot_be_written_to() -> None:
    columns = decode(encode(polls(10)))

    with pytest.raises(ValueError, match="read-only"):
        columns.series[0] = 5


def test_a_body_of_one_shape_and_another_point_set_is_checked_against_its_own() -> None:
    body = encode(polls(10))

    assert len(decode(body, points=4)) == 40
    with pytest.raises(BatchInvalid, match="at most 2"):
        decode(body, points=3)


def test_the_shape_of_a_large_body_is_not_kept() -> None:
    body = encode(polls(KEPT_READINGS // 4 + 1))

    assert decode(body).series is not decode(body).series
