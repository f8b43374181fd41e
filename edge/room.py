"""How long the outbox will do, and how fast the disk wears: what grows, by the day."""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

DAY_S: Final = 86_400.0

MARK_S: Final = 3_600.0
"""How far apart the moments are that a rate is reckoned from; the oldest is a day old."""


@dataclass(slots=True)
class DayRate:
    """How much a total grows a day, over the last day or since the start where that is later."""

    started_s: float
    total: float = 0.0
    _marks: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=25))

    def __post_init__(self) -> None:
        self._marks.append((self.started_s, self.total))

    def note(self, now_s: float, total: float) -> None:
        """Take note of the total at a moment (monotonic)."""
        self.total = total
        if now_s - self._marks[-1][0] >= MARK_S:
            self._marks.append((now_s, total))

    def a_day(self, now_s: float) -> float | None:
        """Tell by how much it grows a day; None before any time has gone by."""
        at_s, before = self._marks[0]
        return (self.total - before) / (now_s - at_s) * DAY_S if now_s > at_s else None


@dataclass(frozen=True, slots=True)
class Room:
    """How full the outbox is: its size, the age of its oldest batch, and how long it will do.

    `days_left` is the room that is left at the rate of the last day, None before there is one.
    `written_a_day` is what this process writes to disk a day, in bytes; None where it is not known.
    """

    used_bytes: int
    queue_age_s: float
    days_left: float | None
    written_a_day: float | None = None


def days_left(free_bytes: int, bytes_a_day: float | None) -> float | None:
    """Tell for how many days there is room; None where nothing comes."""
    return max(0.0, free_bytes / bytes_a_day) if bytes_a_day else None


def room_text(room: dict[str, Any]) -> str:
    """Say how long the outbox will do, as a person would; empty where nobody knows."""
    days = room["days_left"]
    if days is None:
        return ""
    if days >= 2:
        return f"room for {days:.0f} days at today's rate"
    return f"room for {days * 24:.0f} hours at today's rate"


def written_bytes() -> int | None:
    """Tell what this process had written to disk, in bytes; None where the system does not say."""
    try:
        lines = Path("/proc/self/io").read_text("ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(": ", 1) for line in lines)
    return int(fields["write_bytes"])
