"""The gateway's last log entries, in memory, for a technician who has no shell there.

Bounded by number and size: the oldest go first, and who follows is told how many were gone before
they were seen. Secrets are not in it: fields named like one are masked before, and every secret
that the gateway keeps is taken out of texts by its value.
"""

import re
import threading
from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from shared.clock import from_datetime

MOST_ENTRIES: Final = 5_000
MOST_BYTES: Final = 2 * 1024 * 1024
LONGEST: Final = 2_000
"""Characters of one field that are kept."""

SHORTEST_SECRET: Final = 4
"""A shorter one would take harmless words out of every text."""

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_IN_URL: Final = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_OVERHEAD: Final = 200
_OWN: Final = frozenset({"event", "level", "timestamp", "part"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry; numbers count up from 1 since the start."""

    number: int
    at_us: int
    level: str
    part: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The device it speaks of, empty for none."""
        return self.fields.get("device", "")

    @property
    def size(self) -> int:
        """Estimate what it takes in memory, in bytes."""
        fields = sum(len(name) + len(value) for name, value in self.fields.items())
        return _OVERHEAD + len(self.text) + fields


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for: of this level or a graver one, and all else that is set."""

    level: str = "info"
    device: str = ""
    since_us: int = 0
    contains: str = ""

    def is_met_by(self, entry: Entry) -> bool:
        """Tell whether an entry is one of them."""
        text = self.contains.lower()
        return (
            _weight(entry.level) >= _weight(self.level)
            and self.device in {"", entry.device}
            and entry.at_us >= self.since_us
            and (
                not text or any(text in one.lower() for one in (entry.text, *entry.fields.values()))
            )
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Entries, oldest first; `cursor` asks for those after, `gone` were dropped unseen."""

    entries: tuple[Entry, ...]
    cursor: int
    gone: int


class LogRing:
    """Keeps the last entries; `note` is a processor of structlog, called from any thread."""

    def __init__(self, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES) -> None:
        """Start with none."""
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._last = 0
        self._turn = threading.Lock()
        self._secret: re.Pattern[str] | None = None

    def hide(self, secrets: Iterable[str]) -> None:
        """Take these values out of everything that is noted from now on."""
        long = sorted({one for one in secrets if len(one) >= SHORTEST_SECRET}, key=len)
        self._secret = re.compile("|".join(map(re.escape, reversed(long)))) if long else None

    def note(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Keep an entry."""
        fields = {name: self._clean(value) for name, value in event.items() if name not in _OWN}
        level, part = str(event.get("level", "info")), str(event.get("part", ""))
        text, at_us = self._clean(event.get("event", "")), _at_us(event.get("timestamp"))
        with self._turn:
            self._last += 1
            entry = Entry(self._last, at_us, level, part, text, fields)
            self._entries.append(entry)
            self._bytes += entry.size
            while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
                self._bytes -= self._entries.popleft().size
        return event

    def after(self, cursor: int, wanted: Wanted, limit: int = 200) -> Part:
        """Give the entries after a cursor (0: from the oldest), at most so many."""
        kept, last = self._kept()
        first = kept[0].number if kept else last + 1
        gone = max(0, first - 1 - cursor) if cursor else 0
        found = [one for one in kept if one.number > cursor and wanted.is_met_by(one)][:limit]
        upto = found[-1].number if len(found) == limit else last
        return Part(tuple(found), upto, gone)

    def newest(self, wanted: Wanted, limit: int = 200) -> Part:
        """Give the last entries, at most so many."""
        kept, last = self._kept()
        found = [one for one in kept if wanted.is_met_by(one)][-limit:]
        return Part(tuple(found), last, 0)

    def _kept(self) -> tuple[list[Entry], int]:
        with self._turn:
            return list(self._entries), self._last

    def _clean(self, value: Any) -> str:
        text = _IN_URL.sub(r"\1:***@", str(value))
        text = text if self._secret is None else self._secret.sub("***", text)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _weight(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else 1


def _at_us(stamp: Any) -> int:
    at = datetime.fromisoformat(stamp) if isinstance(stamp, str) else datetime.now(UTC)
    return from_datetime(at)
