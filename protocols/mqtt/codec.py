"""What a message says of its points: rows of readings.

Pure. A message can be anything: nothing here raises, and what does not fit becomes bad quality.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from protocols.mqtt.options import TimeUnit
from protocols.mqtt.path import Missing, Step, follow
from shared.clock import from_datetime
from shared.columns import Columns
from shared.model import PointType
from shared.quality import GOOD, Flag, Reason, bad, uncertain

_TRUE: Final = frozenset({"true", "on", "yes", "1"})
_FALSE: Final = frozenset({"false", "off", "no", "0"})
_MICROSECONDS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
_TIME_LIMIT_US: Final = 2**62  # fits the time column; the collector knows what is plausible


@dataclass(frozen=True, slots=True)
class Feed:
    """One point that the messages of a topic feed: its index in the plan, and where it stands."""

    series: int
    type: PointType
    steps: tuple[Step, ...]
    time_steps: tuple[Step, ...] | None = None
    time_unit: TimeUnit = "ms"


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came."""

    at_us: int
    is_retained: bool = False


@dataclass(slots=True)
class Rows:
    """Readings of several messages, growing until they become columns."""

    series: list[int] = field(default_factory=list)
    observed_at: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    quality: list[int] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    untimed: int = 0
    """How many of them have no time of their message."""

    def add(self, series: int, at_us: int, value: float | str, quality: int) -> None:
        """Append one reading."""
        if isinstance(value, str):
            self.texts[len(self.series)] = value
            value = math.nan
        self.series.append(series)
        self.observed_at.append(at_us)
        self.value.append(value)
        self.quality.append(quality)

    def columns(self) -> Columns:
        """Give the rows as columns."""
        return Columns.of(self.series, self.observed_at, self.value, self.quality, self.texts)


def decode(feeds: Sequence[Feed], payload: bytes, arrival: Arrival, rows: Rows) -> None:
    """Append what a message says of the points it feeds.

    A point that a JSON object does not mention gets no reading (partial updates are normal), one
    that is null is bad with `NOT_YET_REPORTED`. A retained message without a time of its own is
    uncertain with `STALE`: nobody knows how old it is.
    """
    document = _document(payload) if any(feed.steps for feed in feeds) else Missing.MISFIT
    for feed in feeds:
        found = follow(document, feed.steps) if feed.steps else _plain(payload)
        if found is Missing.ABSENT and isinstance(document, dict):
            continue
        value, reason = _scalar(found, feed.type)
        at_us = None if feed.time_steps is None else _time(document, feed)
        rows.untimed += at_us is None
        rows.add(
            feed.series,
            arrival.at_us if at_us is None else at_us,
            value,
            _quality(reason, feed, arrival, has_time=at_us is not None),
        )


def refuse(feeds: Sequence[Feed], arrival: Arrival, reason: Reason, rows: Rows) -> None:
    """Append a bad reading for every point of a message that is not even looked at."""
    rows.untimed += len(feeds)
    for feed in feeds:
        rows.add(feed.series, arrival.at_us, math.nan, bad(reason))


def _quality(reason: Reason, feed: Feed, arrival: Arrival, *, has_time: bool) -> int:
    is_time_lost = feed.time_steps is not None and not has_time
    flags = Flag.TIME_ADJUSTED if is_time_lost else 0
    if reason is not Reason.NONE:
        return bad(reason, flags)
    if arrival.is_retained and not has_time:
        return uncertain(Reason.STALE, flags)
    return GOOD | flags


def _document(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return Missing.MISFIT


def _plain(payload: bytes) -> Any:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return Missing.MISFIT
    return None if text in {"", "null"} else text


def _scalar(found: Any, kind: PointType) -> tuple[float | str, Reason]:
    if found is None:
        return math.nan, Reason.NOT_YET_REPORTED
    value: float | str | None = None
    if kind is PointType.TEXT:
        value = _as_text(found)
    elif isinstance(found, str):
        value = _from_word(found.strip(), kind)
    elif isinstance(found, bool | int | float):
        value = _as_number(found, kind)
    return (math.nan, Reason.BAD_PAYLOAD) if value is None else (value, Reason.NONE)


def _as_text(found: Any) -> str | None:
    if isinstance(found, str):
        return found
    return json.dumps(found) if isinstance(found, bool | int | float) else None


def _as_number(found: float, kind: PointType) -> float | None:
    try:
        number = float(found)
    except OverflowError:  # an integer beyond any float
        return None
    return None if kind is PointType.BOOLEAN and number not in {0.0, 1.0} else number


def _from_word(word: str, kind: PointType) -> float | None:
    if kind is PointType.BOOLEAN:
        lowered = word.lower()
        return 1.0 if lowered in _TRUE else 0.0 if lowered in _FALSE else None
    if "_" in word:  # Python reads 1_000, no device writes it
        return None
    try:
        return float(word)
    except ValueError:
        return None


def _time(document: Any, feed: Feed) -> int | None:
    """Read the source time in microseconds; None if there is none that can be trusted."""
    found = follow(document, feed.time_steps or ())
    if isinstance(found, str) and feed.time_unit == "iso":
        return _iso(found)
    if isinstance(found, bool) or not isinstance(found, int | float) or feed.time_unit == "iso":
        return None
    try:
        at_us = round(found * _MICROSECONDS[feed.time_unit])
    except (OverflowError, ValueError):  # NaN and infinity are no times
        return None
    return at_us if 0 < at_us < _TIME_LIMIT_US else None


def _iso(text: str) -> int | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if at.tzinfo is None else from_datetime(at)
