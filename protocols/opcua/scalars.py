"""One value of each built-in type, as a number, as a text, or as both.

Source: OPC UA Part 6, 5.2.2; texts are written as in its JSON encoding (5.4.2): a byte string in
base64, a time in ISO 8601, a GUID with hyphens. A time is also a number: seconds since 1970.
"""

import base64
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from protocols.opcua.binary import (
    I64,
    LOCALIZED_TEXT,
    NUMBERS,
    STRING,
    U8,
    U16,
    U32,
    Malformed,
    Reader,
)

NOTHING, NUMBER, TEXT, OTHER, EITHER = 0, 1, 2, 3, 4
"""What a value carried: nothing, a number (or boolean), a text, something else, number and text."""

DATE_TIME, GUID, BYTE_STRING, XML, NODE_ID, EXPANDED_NODE_ID = 13, 14, 15, 16, 17, 18
STATUS_CODE, QUALIFIED_NAME = 19, 20

TICKS_A_SECOND: Final = 10_000_000
EPOCH_TICKS: Final = 116_444_736_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_TICKS: Final = 2_650_467_743_990_000_000  # the end of the year 9999

Scalar = tuple[int, float | None, str | None]
"""What was carried, as a number, as a text."""

_NOTHING: Final[Scalar] = (NOTHING, None, None)
_OTHER: Final[Scalar] = (OTHER, None, None)


def read_scalar(reader: Reader, kind: int) -> Scalar:
    """Read a value of a built-in type that is no array; what we cannot show is stepped over."""
    if kind in NUMBERS:
        return NUMBER, float(reader.take(NUMBERS[kind])), None
    read = _READERS.get(kind)
    if read is None:
        reader.skip_typed(kind, is_array=False)
        return (OTHER if kind else NOTHING), None, None
    found: Scalar = read(reader)
    return found


def time_text(ticks: int) -> str:
    """Write a time as ISO 8601, to the microsecond where it has one."""
    at = _EPOCH + timedelta(microseconds=(ticks - EPOCH_TICKS) // 10)
    return at.isoformat().replace("+00:00", "Z")


def _text(raw: bytes | None) -> Scalar:
    if raw is None:
        return _NOTHING
    try:
        return TEXT, None, raw.decode()
    except UnicodeDecodeError:
        return _OTHER


def _string(reader: Reader) -> Scalar:
    return _text(reader.raw())


def _localized(reader: Reader) -> Scalar:
    return _text(reader.localized_text())


def _qualified(reader: Reader) -> Scalar:
    reader.skip(2)
    return _text(reader.raw())


def _byte_string(reader: Reader) -> Scalar:
    raw = reader.raw()
    return _NOTHING if raw is None else (TEXT, None, base64.b64encode(raw).decode())


def _date_time(reader: Reader) -> Scalar:
    ticks = int(reader.take(I64))
    if ticks <= 0 or ticks >= _LAST_TICKS:  # Part 6, 5.2.2.5: no time, or one beyond all
        return _NOTHING
    return EITHER, (ticks - EPOCH_TICKS) / TICKS_A_SECOND, time_text(ticks)


def _guid(reader: Reader) -> Scalar:
    return TEXT, None, str(_uuid(reader))


def _uuid(reader: Reader) -> uuid.UUID:
    start = reader.at
    reader.skip(16)
    return uuid.UUID(bytes_le=reader.data[start : reader.at])


def _status(reader: Reader) -> Scalar:
    code = int(reader.take(U32))
    return EITHER, float(code), f"0x{code:08X}"


def _node_id(reader: Reader) -> Scalar:
    return TEXT, None, read_node_id(reader)


def read_node_id(reader: Reader) -> str:
    """Read a node id (expanded or not) and write it as text."""
    mask = reader.take(U8)
    namespace, identifier = _identified(reader, mask & 0x3F)
    uri = reader.raw() if mask & 0x80 else None
    if mask & 0x40:
        reader.skip(4)
    if uri is not None:
        return f"nsu={uri.decode(errors='replace')};{identifier}"
    return f"ns={namespace};{identifier}" if namespace else identifier


def _identified(reader: Reader, form: int) -> tuple[int, str]:
    if form == 0:
        return 0, f"i={reader.take(U8)}"
    if form == 1:
        namespace = int(reader.take(U8))
        return namespace, f"i={reader.take(U16)}"
    namespace = int(reader.take(U16))
    if form == 2:
        return namespace, f"i={reader.take(U32)}"
    if form == 4:
        return namespace, f"g={_uuid(reader)}"
    if form not in {3, 5}:
        msg = f"node id of unknown form {form}"
        raise Malformed(msg)
    raw = reader.raw() or b""
    if form == 3:
        return namespace, f"s={raw.decode(errors='replace')}"
    return namespace, f"b={base64.b64encode(raw).decode()}"


_READERS: Final[dict[int, Any]] = {
    STRING: _string,
    DATE_TIME: _date_time,
    GUID: _guid,
    BYTE_STRING: _byte_string,
    XML: _string,
    NODE_ID: _node_id,
    EXPANDED_NODE_ID: _node_id,
    STATUS_CODE: _status,
    QUALIFIED_NAME: _qualified,
    LOCALIZED_TEXT: _localized,
}
