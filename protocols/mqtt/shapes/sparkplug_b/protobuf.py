"""The wire format of protobuf: just enough to read and write the payload of Sparkplug B.

Source: "Encoding" in the protobuf documentation. Groups, which are deprecated there, are refused.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

_SIZES: Final = {FIXED64: 8, FIXED32: 4}
_VARINT_BYTES: Final = 10
_MOST_64: Final = 2**64 - 1


class WireInvalid(ValueError):
    """These bytes are no message of the kind that was expected."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one field of a message; `most` is how often it may come, 0: the last wins."""

    name: str
    wire: int
    take: Callable[[Any], Any]
    most: int = 0


def record(data: bytes, rules: Mapping[int, Rule]) -> dict[str, Any]:
    """Read one message into a dictionary: fields without a rule are passed over, unread.

    Raises `WireInvalid` for bytes that are no message, a field of another wire type than its rule
    says, and one that comes too often.
    """
    found: dict[str, Any] = {}
    for number, wire, raw in _fields(data):
        rule = rules.get(number)
        if rule is None:
            continue
        if rule.wire != wire:
            msg = f"field {rule.name} has wire type {wire}, must have {rule.wire}"
            raise WireInvalid(msg)
        value = rule.take(raw)
        if not rule.most:
            found[rule.name] = value
            continue
        several = found.setdefault(rule.name, [])
        if len(several) == rule.most:
            msg = f"more than {rule.most} of {rule.name}"
            raise WireInvalid(msg)
        several.append(value)
    return found


def text(raw: bytes) -> str:
    """Read a string; raises `WireInvalid` where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        msg = "a text is not UTF-8"
        raise WireInvalid(msg) from error


def write(number: int, wire: int, raw: int | bytes) -> bytes:
    """Write one field: a number as a varint, bytes with their length or, where fixed, without."""
    key = _varint(number << 3 | wire)
    if isinstance(raw, int):
        return key + _varint(raw)
    return key + raw if wire in _SIZES else key + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    at, end = 0, len(data)
    while at < end:
        key, at = _read_varint(data, at)
        number, wire = key >> 3, key & 7
        if not number:
            msg = "a field has the number 0"
            raise WireInvalid(msg)
        if wire == VARINT:
            value, at = _read_varint(data, at)
            yield number, wire, value
            continue
        size, at = _read_varint(data, at) if wire == LENGTH else (_SIZES.get(wire, -1), at)
        if size < 0 or at + size > end:
            msg = f"field {number} with wire type {wire} is cut off or of no known type"
            raise WireInvalid(msg)
        yield number, wire, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    if at < len(data) and data[at] < 0x80:
        return data[at], at + 1
    value = shift = 0
    for place, byte in enumerate(data[at : at + _VARINT_BYTES], at + 1):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if value > _MOST_64:
                break
            return value, place
    msg = "a number is cut off or longer than 64 bits"
    raise WireInvalid(msg)
