"""What a BACnet value and its status flags mean as a reading. Pure."""

import math
from typing import Any, Final

from shared.model import PointType
from shared.quality import GOOD, Flag, Reason, bad, uncertain

IN_ALARM, FAULT, OVERRIDDEN, OUT_OF_SERVICE = range(4)
"""Bits of status-flags (ASHRAE 135, 21: BACnetStatusFlags)."""

_REASONS: Final = {
    "unknown-object": Reason.WRONG_ADDRESS,
    "unknown-property": Reason.WRONG_ADDRESS,
    "invalid-array-index": Reason.WRONG_ADDRESS,
    "property-is-not-an-array": Reason.WRONG_ADDRESS,
    "read-access-denied": Reason.ACCESS_DENIED,
    "value-out-of-range": Reason.OUT_OF_RANGE,
    "value-not-initialized": Reason.NOT_YET_REPORTED,
}

Read = tuple[float, str | None, int]
"""A value, a text or None, and the quality."""


def refusal(word: str) -> int:
    """Give the quality of a point whose read the device answers with an error's name."""
    return bad(_REASONS.get(word, Reason.DEVICE_EXCEPTION))


def reading(value: Any, flags: Any, kind: PointType) -> Read:
    """Turn a property's value and the object's status flags (or None) into a reading.

    A fault is bad; out of service is uncertain, for then the value is not the plant's; overridden
    is good and forced by hand.
    """
    bits = _bits(flags)
    if bits[FAULT]:
        return math.nan, None, bad(Reason.SENSOR_FAILURE)
    read = _text(value) if kind is PointType.TEXT else _number(value, kind)
    if read is None:
        return math.nan, None, bad(Reason.BAD_PAYLOAD)
    forced = int(Flag.FORCED) if bits[OVERRIDDEN] else 0
    quality = uncertain(Reason.SUBSTITUTED, forced) if bits[OUT_OF_SERVICE] else GOOD | forced
    if isinstance(read, str):
        return math.nan, read, quality
    if not math.isfinite(read):
        return math.nan, None, bad(Reason.NOT_A_NUMBER)
    return read, None, quality


def _bits(flags: Any) -> tuple[bool, bool, bool, bool]:
    try:
        first, second, third, fourth = (bool(bit) for bit in list(flags)[:4])
    except (TypeError, ValueError):
        return False, False, False, False
    return first, second, third, fourth


def _number(value: Any, kind: PointType) -> float | None:
    if isinstance(value, str) or not isinstance(value, int | float):
        return None
    number = float(value)
    return None if kind is PointType.BOOLEAN and number not in {0.0, 1.0} else number


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int | float) else None
