"""Times that devices tell: only those that can be, for a clock that was never set tells 1970."""

from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.clock import MICROSECONDS, from_datetime
from shared.errors import OptionsWrong

EARLIEST_US: Final = from_datetime(datetime(2015, 1, 1, tzinfo=UTC))
_LATEST_US: Final = from_datetime(datetime(2100, 1, 1, tzinfo=UTC))


def zone_called(name: str) -> tzinfo | None:
    """Find a time zone by its IANA name; None for the empty one. Raises `OptionsWrong`."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = f"no time zone {name!r}; write one as Europe/Berlin"
        raise OptionsWrong(msg) from error


def from_iso(told: Any, zone: tzinfo | None = None) -> int | None:
    """Read an ISO 8601 text in microseconds since 1970; None if there is no time in it.

    One without a zone is in `zone`, and no time where that is None, or where the clocks are turned
    and nobody can say which of two moments is meant, or that there was one.
    """
    if not isinstance(told, str):
        return None
    try:
        at = datetime.fromisoformat(told)
    except ValueError:
        return None
    if at.tzinfo is None:
        if zone is None or _is_turned(at, zone):
            return None
        at = at.replace(tzinfo=zone)
    try:
        return _possible(from_datetime(at))
    except OverflowError:  # the first and last day of all time in a far zone
        return None


def from_seconds(told: Any) -> int | None:
    """Read seconds since 1970; None if there is no time in it."""
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 < told < _LATEST_US:
        return None
    return _possible(round(told * MICROSECONDS))


def _possible(at_us: int) -> int | None:
    return at_us if EARLIEST_US <= at_us < _LATEST_US else None


def _is_turned(at: datetime, zone: tzinfo) -> bool:
    offsets = {at.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}
    return len(offsets) > 1
