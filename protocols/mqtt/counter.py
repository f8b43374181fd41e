"""A counter in the messages of a topic, which shows how many of them a broker lost. Pure."""

from dataclasses import dataclass
from typing import Any, Final

from protocols.mqtt.path import Step, follow

_LIMIT: Final = 2**63
_REPEATED: Final = 1_000
"""A number so little below the last one is of a message that comes again."""


@dataclass(slots=True)
class Counter:
    """The counter of one topic: where it stands, whose points it vouches for, and its last number.

    A lower number than the last is a message that came again, unless it is 0, 1 or far below: then
    the device began anew. What was lost before such a beginning nobody knows.
    """

    steps: tuple[Step, ...]
    series: tuple[int, ...]
    last: int | None = None
    last_at_us: int = 0
    """The time of the last reading of its message; 0 if not known."""

    def step(self, document: Any) -> int:
        """Take the number of the next message; tell how many were lost before it."""
        number = follow(document, self.steps)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < _LIMIT:
            return 0
        if self.last is None:
            self.last = number
            return 0
        lost = number - self.last - 1
        if lost >= 0 or number <= 1 or number < self.last - _REPEATED:
            self.last = number
        return max(0, lost)

    def gap_at(self, first_us: int) -> int:
        """Tell from when on the points are unknown, before a reading of `first_us`."""
        return self.last_at_us + 1 if 0 < self.last_at_us < first_us - 1 else first_us - 1
