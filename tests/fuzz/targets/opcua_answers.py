"""Answers of an OPC UA server: `Malformed`, or values that become columns."""

import struct
from contextlib import suppress

import numpy as np

from protocols.opcua.attributes import decode_strings, decode_told, unit_of
from protocols.opcua.binary import Malformed
from protocols.opcua.codec import Values, decode_publish, decode_read, to_columns

_HEADER = struct.pack("<qII", 0, 1, 0) + bytes((0,)) + struct.pack("<i", -1) + bytes((0, 0, 0))
_VALUE = bytes((0x0D, 11)) + struct.pack("<dqq", 21.5, 1 << 57, 1 << 57)
_ELEMENT = bytes((0x05, 0x80 | 11)) + struct.pack("<idq", 1, 21.5, 1 << 57)
_TIME = bytes((0x01, 13)) + struct.pack("<q", 1 << 57)
_UNIT = bytes((0x01, 22, 1, 0)) + struct.pack("<HBi", 889, 1, 10) + struct.pack("<iiB", -1, 0, 0)
_TEXT = bytes((0x01, 12)) + struct.pack("<i", 2) + b"on"

SEEDS = (
    _HEADER + struct.pack("<i", 2) + _VALUE + _VALUE,
    _HEADER + struct.pack("<i", 2) + _VALUE + _TEXT,
    _HEADER + struct.pack("<i", 2) + _ELEMENT + _ELEMENT,
    _HEADER + struct.pack("<i", 2) + _TIME + _UNIT,
    _HEADER + struct.pack("<iBBi", 1, 0x01, 0x8C, 1) + struct.pack("<i", 3) + b"urn",
    _HEADER + struct.pack("<IiBIqi", 7, 0, 0, 1, 1 << 57, 0),
    _HEADER
    + struct.pack("<IiBIqi", 7, 0, 0, 1, 1 << 57, 1)
    + struct.pack("<BBHB", 1, 0, 811, 1)
    + struct.pack("<ii", 4 + 4 + len(_VALUE) + 4, 1)
    + struct.pack("<I", 3)
    + _VALUE
    + struct.pack("<i", -1),
)


def one(data: bytes) -> None:
    with suppress(Malformed):
        _attributes(data)
    for decode in (_read, _published):
        try:
            found = decode(data)
        except Malformed:
            continue
        for values in found:
            handles = int(values.handle.max(initial=0)) + 1
            if handles < 1_000:
                columns = to_columns(values, np.arange(handles) % 2 == 0, 5)
                assert len(columns) == len(values.handle)


def _attributes(data: bytes) -> None:
    for one in decode_told(data, 2):
        assert len(one.shown()) <= 200
        assert len(unit_of(one)) <= 200
    assert all(isinstance(text, str) for text in decode_strings(data))


def _read(data: bytes) -> tuple[Values, ...]:
    return (decode_read(data, 2),)


def _published(data: bytes) -> tuple[Values, ...]:
    return decode_publish(data).changes
