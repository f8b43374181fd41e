"""Bodies of kind events: a zstd frame of a msgpack array of maps."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack
import zstandard

from shared.batch.layout import decompress
from shared.clock import EARLIEST_US, LATEST_US
from shared.errors import BatchInvalid

MAX_EVENTS_BYTES: Final = 1024 * 1024
MAX_COUNT: Final = 2**40
"""Readings one gap may count: many such still fit one number together."""
SEQS: Final = 2**62


def encode_events(events: Sequence[Mapping[str, Any]], level: int = 3) -> bytes:
    """Seal events; raises ValueError if they are over 1 MiB before compression."""
    packed: bytes = msgpack.packb([dict(event) for event in events], use_bin_type=True)
    if len(packed) > MAX_EVENTS_BYTES:
        msg = f"events of {len(packed)} bytes; a body carries at most {MAX_EVENTS_BYTES}"
        raise ValueError(msg)
    return zstandard.ZstdCompressor(level=level).compress(packed)


def decode_events(body: bytes) -> list[dict[str, Any]]:
    """Read sealed events.

    Raises `BatchInvalid` with code `not_a_batch` or `too_large` where the bytes are wrong, and
    `bad_event` where an event is no map with a text `event`, or a gap's key is missing or wrong.
    """
    packed = decompress(body, MAX_EVENTS_BYTES)
    try:
        events = msgpack.unpackb(packed, raw=False, strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise BatchInvalid("not_a_batch", f"msgpack: {error}") from error
    if not isinstance(events, list):
        raise BatchInvalid("not_a_batch", "a body of events is an array")
    for at, event in enumerate(events):
        problem = _problem(event)
        if problem:
            raise BatchInvalid("bad_event", f"event {at}: {problem}")
    return events


def _problem(event: object) -> str | None:
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return "not a map with a text 'event'"
    if event["event"] != "gap":
        return None
    for key, is_right in _GAP.items():
        if key not in event:
            return f"{key} is missing"
        if not is_right(event[key]):
            return f"{key} is wrong"
    return None if _is_count(event.get("rollups", 0)) else "rollups is wrong"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_time(value: object) -> bool:
    return _is_int(value) and EARLIEST_US <= value <= LATEST_US  # type: ignore[operator]  # an int


def _is_reason(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64 and "\0" not in value


def _is_count(value: object) -> bool:
    return value is None or (_is_int(value) and 0 <= value <= MAX_COUNT)  # type: ignore[operator]  # an int here


def _are_ranges(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_range, value))


def _is_range(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    first, last = value
    return _is_int(first) and _is_int(last) and 0 <= first <= last < SEQS


def _are_voided(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_voided, value))


def _is_voided(value: object) -> bool:
    return (
        isinstance(value, dict)
        and _is_int(value.get("epoch"))
        and value["epoch"] > 0
        and _are_ranges(value.get("seqs"))
    )


_GAP: Final = {
    "id": lambda value: isinstance(value, bytes) and len(value) == 16,
    "cause": lambda value: value in ("missed", "dropped"),
    "reason": _is_reason,
    "series": _are_ranges,
    "from_us": _is_time,
    "to_us": _is_time,
    "count": _is_count,
    "missed": _is_count,
    "voided": _are_voided,
}
