from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import SystemClock, from_datetime, to_datetime

BERLIN_SUMMER = timezone(timedelta(hours=2))


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_comes_back_to_the_microsecond(at: datetime) -> None:
    assert to_datetime(from_datetime(at)) == at


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_microseconds_come_back(at_us: int) -> None:
    assert from_datetime(to_datetime(at_us)) == at_us


@pytest.mark.parametrize(
    ("at", "at_us"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC), 1_700_000_000_000_001),
        (datetime(2023, 11, 15, 0, 13, 20, 1, tzinfo=BERLIN_SUMMER), 1_700_000_000_000_001),
    ],
)
def test_known_instants(at: datetime, at_us: int) -> None:
    assert from_datetime(at) == at_us


def test_a_datetime_of_microseconds_is_aware() -> None:
    assert to_datetime(0).tzinfo is UTC


def test_the_system_clock_tells_utc_in_microseconds() -> None:
    before = from_datetime(datetime.now(UTC))
    told = SystemClock().now_us()
    assert before - 1 <= told <= from_datetime(datetime.now(UTC)) + 1


def test_monotonic_time_does_not_go_back() -> None:
    clock = SystemClock()
    told = [clock.monotonic_s() for _ in range(100)]
    assert told == sorted(told)
