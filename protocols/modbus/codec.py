"""Requests and answers as bytes: the MBAP header and the four read functions, pure.

Sources: "MODBUS Messaging on TCP/IP Implementation Guide" V1.0b, 3.1.3 (MBAP header); "MODBUS
Application Protocol Specification" V1.1b3, 6.1-6.4 (functions 1-4) and 7 (exceptions).
"""

import struct
from typing import Final

from protocols.modbus.options import Table
from shared.quality import Reason, bad

FUNCTION: Final[dict[Table, int]] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
HEADER_BYTES: Final = 7
ILLEGAL_ADDRESS: Final = 2

_HEADER: Final = struct.Struct(">HHHB")
_REQUEST: Final = struct.Struct(">BHH")
_MIN_LENGTH: Final = 3
"""Unit, function and one byte more: an answer shorter than an exception is none."""
_MAX_LENGTH: Final = 254
_EXCEPTION_BIT: Final = 0x80
_GATEWAY_CODES: Final = frozenset({0x0A, 0x0B})
_REASONS: Final = {
    ILLEGAL_ADDRESS: Reason.WRONG_ADDRESS,
    0x0A: Reason.LINK_DOWN,
    0x0B: Reason.TIMEOUT,
}


class NotModbus(ValueError):
    """Bytes that cannot be a Modbus TCP header: the stream cannot be trusted further."""


class Failed(Exception):
    """An answer that carries no values: `quality` for its points, `code` if it is an exception."""

    def __init__(self, quality: int, code: int = 0) -> None:
        """Keep the quality and the device's exception code (0: the answer was malformed)."""
        self.quality = quality
        self.code = code
        super().__init__(f"exception {code}" if code else "malformed answer")


def request_pdu(table: Table, start: int, count: int) -> bytes:
    """Write the request that reads `count` registers or bits of a table."""
    return _REQUEST.pack(FUNCTION[table], start, count)


def frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    """Put the MBAP header before a PDU."""
    return _HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu


def read_header(data: bytes | bytearray | memoryview, at: int = 0) -> tuple[int, int]:
    """Read the header at `at`: the transaction id and the bytes of the whole frame.

    Raises `NotModbus` where protocol id or length cannot be those of a Modbus answer.
    """
    transaction, protocol, length, _ = _HEADER.unpack_from(data, at)
    if protocol != 0 or not _MIN_LENGTH <= length <= _MAX_LENGTH:
        msg = f"protocol id {protocol}, length {length}"
        raise NotModbus(msg)
    return transaction, length + HEADER_BYTES - 1


def is_from_gateway(pdu: bytes) -> bool:
    """Tell whether a gateway in between says that it did not reach the device."""
    return pdu[0] >= _EXCEPTION_BIT and pdu[1] in _GATEWAY_CODES


def answer_data(pdu: bytes, table: Table, count: int) -> bytes:
    """Check an answer against its request and give the data bytes; raises `Failed`.

    A device that answers fewer registers than asked, or a byte count that contradicts the length,
    gives no values at all: nobody knows which ones they are.
    """
    function = FUNCTION[table]
    if pdu[0] == function | _EXCEPTION_BIT and len(pdu) == 2:
        code = pdu[1]
        raise Failed(bad(_REASONS.get(code, Reason.DEVICE_EXCEPTION)), code)
    wanted = data_bytes(table, count)
    if pdu[0] != function or pdu[1] > wanted or len(pdu) - 2 > wanted:
        raise Failed(bad(Reason.BAD_PAYLOAD))
    if pdu[1] < wanted or len(pdu) - 2 < wanted:
        raise Failed(bad(Reason.SHORT_ANSWER))
    return pdu[2:]


def data_bytes(table: Table, count: int) -> int:
    """Tell how many data bytes an answer of `count` registers or bits has."""
    return 2 * count if FUNCTION[table] > 2 else (count + 7) // 8
