"""Values that payloads hold as bytes. Pure, and nothing here raises for any payload."""

import base64
import binascii
import struct
from typing import Any, Final

from protocols.mqtt.options import Binary

_CODES: Final = {
    "uint8": "B",
    "int8": "b",
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}


def number_in(payload: bytes, binary: Binary) -> float | None:
    """Read the value out of bytes; None if they are too few."""
    layout = _layout(binary)
    if len(payload) < binary.at + layout.size:
        return None
    number: int | float = layout.unpack_from(payload, binary.at)[0]
    if binary.bit is not None:
        return (int(number) >> binary.bit) & 1
    return number


def bytes_in(found: Any, binary: Binary) -> bytes | None:
    """Read bytes that are written as text; None if they are not."""
    if not isinstance(found, str):
        return None
    try:
        if binary.encoding == "hex":
            return bytes.fromhex(found)
        return base64.b64decode(found, validate=True)
    except (ValueError, binascii.Error):
        return None


def packed(number: float, binary: Binary) -> bytes:
    """Write a value as its bytes, zeros before them; raises ValueError if it does not fit."""
    is_float = binary.type.startswith("float")
    try:
        body = _layout(binary).pack(number if is_float else round(number))
    except (struct.error, OverflowError) as error:
        msg = f"{number:g} does not fit {binary.type}"
        raise ValueError(msg) from error
    return bytes(binary.at) + body


def _layout(binary: Binary) -> struct.Struct:
    return struct.Struct((">" if binary.order == "big" else "<") + _CODES[binary.type])
