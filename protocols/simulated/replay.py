"""The replayed time: what moment of the recorded building is shown at a moment of the real clock.

Clocks stay real: readings carry real time. Only the values run `speed` times faster.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from shared.clock import Clock, from_datetime

ORIGIN_US: Final = from_datetime(datetime(2020, 1, 1, tzinfo=UTC))
"""Midnight; where replayed time is 0 at any speed, so it follows from the clock and speed alone."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Maps the real clock to replayed time, in microseconds since `ORIGIN_US`."""

    clock: Clock
    speed: float = 1.0

    def now_us(self) -> int:
        """Tell the real time: UTC in microseconds since 1970."""
        return self.clock.now_us()

    def replayed_us(self, at_us: int) -> int:
        """Tell which replayed moment belongs to a real one."""
        elapsed_us = at_us - ORIGIN_US
        return elapsed_us if self.speed == 1.0 else int(elapsed_us * self.speed)
