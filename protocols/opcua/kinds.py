"""The built-in types that a point can be written in, and what fits each of them.

Source: OPC UA Part 6, 5.1.2 and Part 3, 8. A value that does not fit is refused before anything is
sent: a server may cut it to what fits, or answer late.
"""

import base64
import binascii
import math
import re
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from protocols.opcua.binary import BOOLEAN, LOCALIZED_TEXT, STRING
from protocols.opcua.scalars import (
    BYTE_STRING,
    DATE_TIME,
    EXPANDED_NODE_ID,
    GUID,
    NODE_ID,
    QUALIFIED_NAME,
    STATUS_CODE,
    XML,
)

FLOAT, DOUBLE = 10, 11
_HEX: Final = re.compile(r"0[xX][0-9a-fA-F]{1,8}")
INTEGERS: Final = {
    kind: (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    for kind, (bits, is_signed) in enumerate(
        [(size, is_signed) for size in (8, 16, 32, 64) for is_signed in (True, False)], start=2
    )
}
"""The limits of SByte (2), Byte, Int16, UInt16 … UInt64 (9)."""
NAMES: Final = {
    1: "Boolean", 2: "SByte", 3: "Byte", 4: "Int16", 5: "UInt16", 6: "Int32", 7: "UInt32",
    8: "Int64", 9: "UInt64", 10: "Float", 11: "Double", 12: "String", 13: "DateTime", 14: "Guid",
    15: "ByteString", 16: "XmlElement", 17: "NodeId", 18: "ExpandedNodeId", 19: "StatusCode",
    20: "QualifiedName", 21: "LocalizedText",
}  # fmt: skip
TEXTS: Final = frozenset(
    {STRING, LOCALIZED_TEXT, GUID, BYTE_STRING, XML, NODE_ID, EXPANDED_NODE_ID, QUALIFIED_NAME}
)
"""Types whose values are texts; DateTime and StatusCode are texts or numbers."""


class ValueUnfit(ValueError):
    """A value does not fit the type it should be written in."""


def fitted(kind: int, value: float | str) -> Any:
    """Make of a value what the type `kind` holds; raises `ValueUnfit` saying what would fit."""
    if kind in INTEGERS:
        return _integer(kind, value)
    fit = _FITS.get(kind)
    if fit is None:
        msg = f"values of type {NAMES.get(kind, kind)} are not written"
        raise ValueUnfit(msg)
    return fit(value)


def _integer(kind: int, value: float | str) -> int:
    low, high = INTEGERS[kind]
    whole = _whole(value)
    if whole is None or not low <= whole <= high:
        msg = f"{value!r} is no whole number from {low} to {high} ({NAMES[kind]})"
        raise ValueUnfit(msg)
    return whole


def _whole(value: float | str) -> int | None:
    """Read a whole number; a text of digits is exact where a number beyond 2**53 is not."""
    try:
        if isinstance(value, str):
            return int(value)
        return int(value) if float(value).is_integer() else None
    except ValueError:
        return None


def _boolean(value: float | str) -> bool:
    if isinstance(value, str) or value not in {0, 1}:
        msg = f"{value!r} is neither 0 nor 1 (Boolean)"
        raise ValueUnfit(msg)
    return bool(value)


def _double(value: float | str) -> float:
    if isinstance(value, str) or not math.isfinite(value):
        msg = f"{value!r} is no finite number (Double)"
        raise ValueUnfit(msg)
    return float(value)


def _float(value: float | str) -> float:
    number = _double(value)
    try:
        struct.pack("<f", number)
    except OverflowError as error:
        msg = f"{value!r} is too large for a Float"
        raise ValueUnfit(msg) from error
    return number


def _text(value: float | str) -> str:
    if not isinstance(value, str):
        msg = f"{value!r} is no text"
        raise ValueUnfit(msg)
    return value


def _time(value: float | str) -> datetime:
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).astimezone(UTC)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    except (ValueError, OverflowError) as error:
        msg = f"{value!r} is no time; write 2026-01-31T12:00:00Z or seconds since 1970"
        raise ValueUnfit(msg) from error


def _guid(value: float | str) -> uuid.UUID:
    try:
        return uuid.UUID(_text(value))
    except ValueError as error:
        msg = f"{value!r} is no GUID"
        raise ValueUnfit(msg) from error


def _bytes(value: float | str) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error as error:
        msg = f"{value!r} is no base64 (ByteString)"
        raise ValueUnfit(msg) from error


def _status(value: float | str) -> int:
    whole = int(value, 16) if isinstance(value, str) and _is_hex(value) else _whole(value)
    if whole is None or not 0 <= whole < 1 << 32:
        msg = f"{value!r} is no status code; write 0x80340000 or its number"
        raise ValueUnfit(msg)
    return whole


def _is_hex(text: str) -> bool:
    return _HEX.fullmatch(text) is not None


_FITS: Final[dict[int, Callable[[float | str], Any]]] = {
    BOOLEAN: _boolean,
    FLOAT: _float,
    DOUBLE: _double,
    STRING: _text,
    XML: _text,
    LOCALIZED_TEXT: _text,
    QUALIFIED_NAME: _text,
    NODE_ID: _text,
    EXPANDED_NODE_ID: _text,
    DATE_TIME: _time,
    GUID: _guid,
    BYTE_STRING: _bytes,
    STATUS_CODE: _status,
}
