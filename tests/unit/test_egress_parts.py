"""The pure parts of the human API: durations, cursors, qualities, spans, limits by address."""

import contextlib
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.access import bearer
from central.egress.durations import parse_duration
from central.egress.raw import Cursor, read_cursor, write_cursor
from central.egress.schemas import finite, quality_out
from central.egress.span import span
from central.ingress.rate import RateLimit
from central.problems import ApiProblem
from shared.quality import Flag, QualityClass, Reason, quality


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT1M", 60), ("PT15M", 900), ("PT1H", 3_600), ("P1D", 86_400), ("P1DT1H1M1S", 90_061)],
)
def test_durations_of_fixed_length_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "P1Y", "P1M", "PT1M\n", "1M", "PT1.5S", "-PT1M"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(
    st.integers(0, 2**31 - 1),
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_a_cursor_comes_back_as_it_was(point_id: int, at: datetime) -> None:
    assert read_cursor(write_cursor(Cursor(point_id, at))) == Cursor(point_id, at)


@given(st.text(max_size=40))
def test_any_other_cursor_is_refused_and_nothing_else(text: str) -> None:
    with contextlib.suppress(ApiProblem):
        assert read_cursor(text) is not None


def test_a_quality_is_written_in_words() -> None:
    value = quality(QualityClass.UNCERTAIN, Reason.STALE, Flag.FORCED | Flag.CLOCK_UNSYNCHRONISED)
    assert quality_out(value).model_dump(by_alias=True) == {
        "class": "uncertain",
        "reason": "stale",
        "flags": ["clock_unsynchronised", "forced"],
    }


@given(st.floats() | st.none())
def test_only_finite_numbers_are_told(value: float | None) -> None:
    told = finite(value)
    assert told is None or told == value
    assert (told is None) == (value is None or not math.isfinite(value))


def test_a_span_is_completed_backwards_from_its_end() -> None:
    end = datetime(2026, 1, 1, tzinfo=UTC)
    assert span(None, end) == (end - timedelta(hours=1), end)
    with pytest.raises(ApiProblem):
        span(end, end - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("", None),
        ("Bearer", None),
    ],
)
def test_a_key_is_read_from_its_header(header: str, key: str | None) -> None:
    assert bearer(header) == key


class TurnedClock:
    def __init__(self) -> None:
        self.at_s = 0.0

    def now_us(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.at_s


def test_tries_are_limited_by_address_and_allowed_again_later() -> None:
    clock = TurnedClock()
    limit = RateLimit(clock, 2, 60)
    assert [limit.wait_s("a") for _ in range(3)] == [0, 0, 60]
    assert limit.wait_s("b") == 0
    clock.at_s = 45
    assert limit.wait_s("a") == 15
    clock.at_s = 60
    assert limit.wait_s("a") == 0
