"""The buffer in one line for people: whether central is reached, and how long there is room."""

from datetime import datetime
from typing import Any, Final

from shared.clock import MICROSECONDS, to_datetime

_UNITS: Final = (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0))


def buffer_text(told: dict[str, Any], now_us: int) -> str:
    """Write the line of a status: `Central not reached since 14:02. 81 240 readings kept. …`."""
    link, outbox, pending = told["link"], told["outbox"], told["ledger"]["pending"]
    parts = [_link_text(link, now_us), f"{pending:,} readings kept".replace(",", " ")]
    days = outbox["days_left"]
    if days is not None:
        parts.append(f"Room for {_span(days * 86_400)} at today's rate")
    if pending and outbox["queue_age_s"] is not None:
        parts.append(f"Oldest {_span(outbox['queue_age_s'])}")
    return "".join(f"{part}. " for part in parts).rstrip()


def _link_text(link: dict[str, Any], now_us: int) -> str:
    if link["connected"]:
        return "Central connected"
    since_us = link.get("since_us")
    if since_us is None:
        return "Central not reached"
    return f"Central not reached since {_moment(since_us, now_us)}"


def _moment(at_us: int, now_us: int) -> str:
    at: datetime = to_datetime(at_us).astimezone()
    is_near = abs(now_us - at_us) < 20 * 3_600 * MICROSECONDS
    return f"{at:%H:%M}" if is_near else f"{at:%Y-%m-%d %H:%M}"


def _span(seconds: float) -> str:
    for name, length in _UNITS[:-1]:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"
