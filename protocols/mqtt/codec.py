"""What a message says of its points: rows of readings.

Pure. A message can be anything: nothing here raises, and what does not fit becomes bad quality.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from protocols.mqtt.binary import bytes_in, number_in
from protocols.mqtt.options import Binary, TimeUnit
from protocols.mqtt.path import Missing, Step, follow
from protocols.mqtt.scalar import Scale, fitted
from shared.clock import from_datetime
from shared.columns import Columns
from shared.model import PointType
from shared.quality import GOOD, Flag, Reason, bad, uncertain

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
    binary: Binary | None = None
    scale: Scale | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came; `doubt` is why what it tells is uncertain."""

    at_us: int
    is_retained: bool = False
    doubt: Reason = Reason.NONE


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

    def tell(
        self,
        series: int,
        told: tuple[float | str, Reason],
        arrival: Arrival,
        at_us: int | None,
        *,
        adjusts: bool = False,
    ) -> None:
        """Append what a message tells, at its own time or that of its arrival.

        `adjusts`: the message should have told a time, so its absence is flagged.
        """
        value, reason = told
        self.untimed += at_us is None
        flags = Flag.TIME_ADJUSTED if adjusts and at_us is None else 0
        if reason is not Reason.NONE:
            quality = bad(reason, flags)
        elif arrival.doubt is not Reason.NONE:
            quality = uncertain(arrival.doubt, flags)
        elif arrival.is_retained and at_us is None:
            quality = uncertain(Reason.STALE, flags)
        else:
            quality = GOOD | flags
        self.add(series, arrival.at_us if at_us is None else at_us, value, quality)

    def extend(self, others: "Rows") -> None:
        """Append readings that were gathered apart."""
        start = len(self.series)
        self.texts |= {start + row: text for row, text in others.texts.items()}
        self.series += others.series
        self.observed_at += others.observed_at
        self.value += others.value
        self.quality += others.quality
        self.untimed += others.untimed

    def columns(self) -> Columns:
        """Give the rows as columns."""
        return Columns.of(self.series, self.observed_at, self.value, self.quality, self.texts)


def decode(feeds: Sequence[Feed], payload: bytes, arrival: Arrival, rows: Rows) -> None:
    """Append what a message says of the points it feeds.

    A point that a JSON object does not mention gets no reading (partial updates are normal), one
    that is null is bad with `NOT_YET_REPORTED`. A retained message without a time of its own is
    uncertain with `STALE`: nobody knows how old it is.
    """
    document = document_in(payload) if any(feed.steps for feed in feeds) else Missing.MISFIT
    decode_document(feeds, payload, document, arrival, rows)


def decode_document(
    feeds: Sequence[Feed], payload: bytes, document: Any, arrival: Arrival, rows: Rows
) -> None:
    """Append what a message says, whose JSON was read already."""
    for feed in feeds:
        found = follow(document, feed.steps) if feed.steps else payload
        if found is Missing.ABSENT and isinstance(document, dict):
            continue
        value, reason = _value(found, feed)
        at_us = None if feed.time_steps is None else _time(document, feed)
        rows.tell(feed.series, (value, reason), arrival, at_us, adjusts=feed.time_steps is not None)


def _value(found: Any, feed: Feed) -> tuple[float | str, Reason]:
    if feed.binary is not None:
        found = _number(found, feed.binary)
    elif isinstance(found, bytes):
        found = plain(found)
    return fitted(found, feed.type, feed.scale)


def _number(found: Any, binary: Binary) -> Any:
    if binary.encoding != "raw":
        text = plain(found) if isinstance(found, bytes) else found
        if text is None:
            return None
        found = bytes_in(text, binary)
    number = number_in(found, binary) if isinstance(found, bytes) else None
    return Missing.MISFIT if number is None else number


def refuse(feeds: Sequence[Feed], arrival: Arrival, reason: Reason, rows: Rows) -> None:
    """Append a bad reading for every point of a message that is not even looked at."""
    rows.untimed += len(feeds)
    for feed in feeds:
        rows.add(feed.series, arrival.at_us, math.nan, bad(reason))


def document_in(payload: bytes) -> Any:
    """Read a payload as JSON; `Missing.MISFIT` if it is none."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return Missing.MISFIT


def plain(payload: bytes) -> Any:
    """Read a payload as text, None where it says nothing; `Missing.MISFIT` if it is none."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return Missing.MISFIT
    return None if text in {"", "null"} else text


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
