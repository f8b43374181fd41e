"""The quality of a reading as one small integer: class, flags and reason.

Layout (fits a signed 16-bit column): bits 12-13 class, bits 8-11 flags, bits 0-7 reason. Class
order is that of OPC UA's severity bits (Part 8, 5.3), so a status code maps without losing its
class.
"""

from enum import IntEnum, IntFlag
from typing import Final

CLASS_SHIFT: Final = 12
FLAG_MASK: Final = 0x0F00
REASON_MASK: Final = 0x00FF


class QualityClass(IntEnum):
    """How far a reading can be trusted."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


class Reason(IntEnum):
    """Why a reading is not simply good. Numbers are stored: never renumber, only append."""

    NONE = 0
    LINK_DOWN = 1
    DEVICE_EXCEPTION = 2
    OUT_OF_RANGE = 3
    NOT_IMPLEMENTED = 4
    STALE = 5
    NOT_A_NUMBER = 6
    TIMEOUT = 7
    WRONG_ADDRESS = 8
    ACCESS_DENIED = 9
    SENSOR_FAILURE = 10
    SUBSTITUTED = 11
    BAD_PAYLOAD = 12
    SHORT_ANSWER = 13
    NOT_YET_REPORTED = 14
    TOO_LONG = 15
    OTHER = 16
    REFUSED = 17
    OPTIONS_WRONG = 18
    MESSAGES_LOST = 19


class Flag(IntFlag):
    """What else is known of a reading, whatever its class."""

    CLOCK_UNSYNCHRONISED = 0x0100
    TIME_ADJUSTED = 0x0200
    FORCED = 0x0400
    CORRECTED = 0x0800


GOOD: Final = 0

GATEWAY_MADE: Final = (Reason.LINK_DOWN, Reason.REFUSED, Reason.OPTIONS_WRONG)
"""Reasons of readings that say that there was no answer; the device did not make them."""

_KNOWN: Final = frozenset(Reason)


def quality(klass: QualityClass, reason: Reason = Reason.NONE, flags: int = 0) -> int:
    """Compose a quality from its class, reason and flags."""
    return (klass << CLASS_SHIFT) | (flags & FLAG_MASK) | reason


def bad(reason: Reason, flags: int = 0) -> int:
    """Compose a bad quality with its reason."""
    return quality(QualityClass.BAD, reason, flags)


def uncertain(reason: Reason, flags: int = 0) -> int:
    """Compose an uncertain quality with its reason."""
    return quality(QualityClass.UNCERTAIN, reason, flags)


def class_of(value: int) -> QualityClass:
    """Tell the class of a quality; a class this version does not know counts as bad."""
    return QualityClass(min(value >> CLASS_SHIFT & 0x3, QualityClass.BAD))


def reason_of(value: int) -> Reason:
    """Tell the reason of a quality; a reason this version does not know is `OTHER`."""
    code = value & REASON_MASK
    return Reason(code) if code in _KNOWN else Reason.OTHER


def flags_of(value: int) -> Flag:
    """Tell the flags of a quality."""
    return Flag(value & FLAG_MASK)
