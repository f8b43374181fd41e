"""Answers of an OPC UA server: `Malformed`, or values that become columns."""

import struct

import numpy as np

from protocols.opcua.binary import Malformed
from protocols.opcua.codec import Values, decode_publish, decode_read, to_columns

_HEADER = struct.pack("<qII", 0, 1, 0) + bytes((0,)) + struct.pack("<i", -1) + bytes((0, 0, 0))
_VALUE = bytes((0x0D, 11)) + struct.pack("<dqq", 21.5, 1 << 57, 1 << 57)
_TEXT = bytes((0x01, 12)) + struct.pack("<i", 2) + b"on"

SEEDS = (
    _HEADER + struct.pack("<i", 2) + _VALUE + _VALUE,
    _HEADER + struct.pack("<i", 2) + _VALUE + _TEXT,
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


def _read(data: bytes) -> tuple[Values, ...]:
    return (decode_read(data, 2),)


def _published(data: bytes) -> tuple[Values, ...]:
    return decode_publish(data).changes
