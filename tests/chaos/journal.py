"""The run's own log: `events.jsonl`, which the checker reads as the timetable."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from shared.clock import SystemClock


@dataclass(slots=True)
class Journal:
    """Writes and counts events."""

    path: Path
    clock: SystemClock = field(default_factory=SystemClock)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, event: str, **more: object) -> None:
        """Write an event with the time of now."""
        self.counts[event] += 1
        line = {"at_us": self.clock.now_us(), "event": event, **more}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
