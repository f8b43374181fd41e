"""The data types of Sparkplug B metrics, and how their values lie in a payload.

Source: Sparkplug 3.0.0, 6.4.16 "Data Types". What a payload says and its type does not allow is
`ValueUnfit`, so that one bad metric leaves the others as they are.
"""

import struct
from enum import IntEnum
from typing import Any, Final

from protocols.mqtt.shapes.sparkplug_b.arrays import (
    pack_booleans,
    pack_numbers,
    pack_texts,
    unpack_booleans,
    unpack_numbers,
    unpack_texts,
)
from protocols.mqtt.shapes.sparkplug_b.protobuf import FIXED32, FIXED64, LENGTH, VARINT
from shared.quality import Reason

Scalar = bool | int | float | str | bytes
Value = Scalar | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
Field = tuple[int, int | bytes]
"""The number of the field that carries a value, and its raw content."""


class DataType(IntEnum):
    """What a metric's value is; the numbers are those of the specification."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTY_SET = 20
    PROPERTY_SET_LIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATETIME_ARRAY = 34


class ValueUnfit(ValueError):
    """A value that cannot be read or written as its type; `reason` is the quality of it."""

    def __init__(self, text: str, reason: Reason = Reason.BAD_PAYLOAD) -> None:
        super().__init__(text)
        self.reason = reason


INT: Final = 10
LONG: Final = 11
FLOAT: Final = 12
DOUBLE: Final = 13
BOOLEAN: Final = 14
STRING: Final = 15
BYTES: Final = 16

WIRES: Final = {
    INT: VARINT,
    LONG: VARINT,
    FLOAT: FIXED32,
    DOUBLE: FIXED64,
    BOOLEAN: VARINT,
    STRING: LENGTH,
    BYTES: LENGTH,
    17: LENGTH,  # data set
    18: LENGTH,  # template
    19: LENGTH,  # extension
}

_BITS: Final = {
    DataType.INT8: (8, True),
    DataType.INT16: (16, True),
    DataType.INT32: (32, True),
    DataType.INT64: (64, True),
    DataType.UINT8: (8, False),
    DataType.UINT16: (16, False),
    DataType.UINT32: (32, False),
    DataType.UINT64: (64, False),
    DataType.DATETIME: (64, False),
}
_REALS: Final = {DataType.FLOAT: FLOAT, DataType.DOUBLE: DOUBLE}
_FORMS: Final = {FLOAT: "<f", DOUBLE: "<d"}
_KNOWN: Final = frozenset(DataType)
_TEXTS: Final = (DataType.STRING, DataType.TEXT, DataType.UUID)
_RAW: Final = (DataType.BYTES, DataType.FILE)
_NUMBER_ARRAYS: Final = {
    DataType.INT8_ARRAY: "b",
    DataType.INT16_ARRAY: "h",
    DataType.INT32_ARRAY: "i",
    DataType.INT64_ARRAY: "q",
    DataType.UINT8_ARRAY: "B",
    DataType.UINT16_ARRAY: "H",
    DataType.UINT32_ARRAY: "I",
    DataType.UINT64_ARRAY: "Q",
    DataType.FLOAT_ARRAY: "f",
    DataType.DOUBLE_ARRAY: "d",
    DataType.DATETIME_ARRAY: "Q",
}


def is_whole(datatype: int) -> bool:
    """Tell whether values of a type are whole numbers (a time is one, in milliseconds)."""
    return datatype in _BITS


def is_text(datatype: int) -> bool:
    """Tell whether values of a type are texts; so are arrays, as JSON."""
    return datatype in _TEXTS or datatype >= DataType.INT8_ARRAY


def read(datatype: int, field: Field) -> Value:
    """Read a value; times are milliseconds since 1970. Raises `ValueUnfit`."""
    number, raw = field
    try:
        if isinstance(raw, int):
            return _read_number(datatype, number, raw)
        return _read_bytes(datatype, number, raw)
    except (ValueError, struct.error) as error:
        if isinstance(error, ValueUnfit):
            raise
        msg = f"{_name(datatype)}: {error}"
        raise ValueUnfit(msg) from error


def write(datatype: int, value: Any) -> Field:
    """Say how a value lies in a payload. Raises `ValueUnfit` where it does not fit its type."""
    try:
        return _written(datatype, value)
    except (struct.error, OverflowError, AttributeError, TypeError, ValueError) as error:
        msg = f"{value!r:.100} is no {_name(datatype)}"
        raise ValueUnfit(msg) from error


def _read_number(datatype: int, number: int, raw: int) -> bool | int:
    if datatype == DataType.BOOLEAN and number in {BOOLEAN, INT, LONG} and raw in {0, 1}:
        return bool(raw)
    if datatype in _BITS and number in {INT, LONG}:
        return _whole(raw, *_BITS[DataType(datatype)])
    msg = f"{_name(datatype)} in field {number}"
    raise ValueUnfit(msg)


def _whole(raw: int, bits: int, is_signed: bool) -> int:
    """Read a whole number: a negative one lies there in its own width, in 32 or in 64 bits."""
    if not is_signed:
        if raw >> bits:
            msg = f"{raw} has more than {bits} bits"
            raise ValueUnfit(msg)
        return raw
    half = 1 << (bits - 1)
    for width in (bits, 32, 64):
        value = raw - (1 << width) if raw >> (width - 1) == 1 else raw
        if -half <= value < half:
            return value
    msg = f"{raw} has more than {bits} bits"
    raise ValueUnfit(msg)


def _read_bytes(datatype: int, number: int, raw: bytes) -> Value:
    if datatype in _REALS and number in _FORMS:  # a Float that lies in a double is read too
        return float(struct.unpack(_FORMS[number], raw)[0])
    if datatype in _TEXTS and number == STRING:
        return raw.decode()
    if datatype in _RAW and number == BYTES:
        return raw
    if datatype >= DataType.INT8_ARRAY and number == BYTES:
        return _read_array(datatype, raw)
    if datatype in {DataType.DATASET, DataType.TEMPLATE} or datatype in _RAW:
        msg = f"{_name(datatype)} is not read"
        raise ValueUnfit(msg, Reason.NOT_IMPLEMENTED)
    msg = f"{_name(datatype)} in field {number}"
    raise ValueUnfit(msg)


def _read_array(datatype: int, raw: bytes) -> Value:
    if datatype == DataType.BOOLEAN_ARRAY:
        return unpack_booleans(raw)
    if datatype == DataType.STRING_ARRAY:
        return unpack_texts(raw)
    if datatype in _NUMBER_ARRAYS:
        return unpack_numbers(_NUMBER_ARRAYS[DataType(datatype)], raw)
    msg = f"no data type {datatype}"
    raise ValueUnfit(msg)


def _written(datatype: int, value: Any) -> Field:
    if datatype == DataType.BOOLEAN:
        return BOOLEAN, int(bool(value))
    if datatype in _BITS:
        return _written_whole(value, *_BITS[DataType(datatype)])
    if datatype in _REALS:
        field = _REALS[DataType(datatype)]
        return field, struct.pack(_FORMS[field], value)
    if datatype in _TEXTS:
        return STRING, value.encode()
    return BYTES, bytes(memoryview(value)) if datatype in _RAW else _written_array(datatype, value)


def _written_array(datatype: int, values: Any) -> bytes:
    if datatype == DataType.BOOLEAN_ARRAY:
        return pack_booleans(values)
    if datatype == DataType.STRING_ARRAY:
        return pack_texts(values)
    form = _NUMBER_ARRAYS.get(DataType(datatype))
    if form is None:
        msg = "not written"
        raise ValueError(msg)
    return pack_numbers(form, values)


def _written_whole(value: Any, bits: int, is_signed: bool) -> Field:
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if is_signed else (0, 1 << bits)
    if value != int(value) or not low <= value < high:
        msg = f"{value} is outside"
        raise ValueError(msg)
    is_int = bits < 32 or (bits == 32 and is_signed)
    return (INT, int(value) % (1 << 32)) if is_int else (LONG, int(value) % (1 << 64))


def _name(datatype: int) -> str:
    return DataType(datatype).name.lower() if datatype in _KNOWN else f"data type {datatype}"
