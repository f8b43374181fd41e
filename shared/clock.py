"""Time for code: UTC in microseconds for what is stored, monotonic seconds for intervals."""

import time
from datetime import UTC, datetime
from typing import Final, Protocol

MICROSECONDS: Final = 1_000_000
EARLIEST_US: Final = -62_135_596_800_000_000
LATEST_US: Final = 253_402_300_799_999_999
"""Years 1 to 9999: what both Python and Postgres can hold."""


class Clock(Protocol):
    """What code asks for the time; tests pass one they can turn."""

    def now_us(self) -> int:
        """Tell UTC in microseconds since 1970."""
        ...

    def monotonic_s(self) -> float:
        """Tell seconds that never jump, for intervals only."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Tell UTC in microseconds since 1970."""
        return time.time_ns() // 1_000

    def monotonic_s(self) -> float:
        """Tell seconds that never jump."""
        return time.monotonic()


def to_datetime(at_us: int) -> datetime:
    """Convert microseconds since 1970 to an aware datetime, exactly."""
    seconds, micros = divmod(at_us, MICROSECONDS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def from_datetime(at: datetime) -> int:
    """Convert an aware datetime to microseconds since 1970, exactly."""
    delta = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * MICROSECONDS + delta.microseconds
