"""How long the outbox will do, in words, and the rate of a day."""

import pytest

from edge.room import DAY_S, DayRate, days_left, room_text


def test_a_rate_is_that_of_the_last_day_not_that_of_the_whole_life() -> None:
    rate = DayRate(0.0)
    total = 0.0
    for hour in range(1, 24 * 10 + 1):
        total += 1_000 if hour <= 24 * 8 else 50
        rate.note(hour * 3_600.0, total)
    assert rate.a_day(10 * DAY_S) == pytest.approx(50 * 24)


def test_a_rate_is_unknown_before_any_time_has_gone_by_and_that_since_the_start_then() -> None:
    rate = DayRate(100.0)
    assert rate.a_day(100.0) is None
    rate.note(160.0, 10.0)
    assert rate.a_day(160.0) == pytest.approx(10 * 1_440)


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (41.2, "room for 41 days at today's rate"),
        (1.0, "room for 24 hours at today's rate"),
        (0.0, "room for 0 hours at today's rate"),
        (None, ""),
    ],
)
def test_the_room_is_told_as_a_person_would(days: float | None, text: str) -> None:
    assert room_text({"days_left": days}) == text


def test_room_is_what_is_free_at_the_rate_of_a_day() -> None:
    assert days_left(410, 10.0) == 41.0
    assert days_left(-5, 10.0) == 0.0
    assert days_left(410, None) is None
    assert days_left(410, 0.0) is None
