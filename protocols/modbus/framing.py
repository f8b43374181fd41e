"""How a PDU travels over a TCP connection: with an MBAP header, or as on a serial line.

Sources: "MODBUS Messaging on TCP/IP Implementation Guide" V1.0b, 3.1.3; "MODBUS over Serial Line
Specification" V1.02, 2.5.1 (RTU) and 6.2.2 (CRC).
"""

from typing import Final, Protocol

from protocols.modbus import identity
from protocols.modbus.codec import HEADER_BYTES, NotModbus, frame, read_header

Data = bytearray | memoryview
Cut = tuple[int, bytes, int]
"""The transaction an answer belongs to, its PDU, and the bytes that its frame took."""

FOREIGN: Final = -1
"""The transaction of an answer that nobody asked for."""

_RTU_MAX: Final = 256
_EXCEPTION_BIT: Final = 0x80
_POLYNOMIAL: Final = 0xA001
_FIXED: Final = {5: 8, 6: 8, 15: 8, 16: 8, 22: 10}
"""Bytes of the answers to writes, unit and CRC included, by function."""


class Framing(Protocol):
    """Puts requests into frames and cuts answers out of a stream."""

    def wrap(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """Make the frame of a request."""
        ...

    def cut(self, data: Data, at: int, end: int) -> Cut | None:
        """Cut the next frame out of `data[at:end]`; None while it is not complete.

        Raises `NotModbus` where no frame can begin.
        """
        ...


class TcpFraming:
    """The MBAP header, whose transaction id says which request an answer belongs to."""

    def wrap(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """Make the frame of a request."""
        return frame(transaction, unit, pdu)

    def cut(self, data: Data, at: int, end: int) -> Cut | None:
        """Cut the next frame out; None while it is not complete."""
        if end - at < HEADER_BYTES:
            return None
        transaction, size = read_header(data, at)
        if end - at < size:
            return None
        return transaction, bytes(data[at + HEADER_BYTES : at + size]), size


class RtuFraming:
    """Unit, PDU and CRC, as a converter passes on what it hears on its serial line.

    There is no transaction id: an answer belongs to the request under way if unit and function are
    its own. How long it is follows from its function.
    """

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self._asked: tuple[int, int, int] | None = None

    def wrap(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """Make the frame of a request, and remember it as the one under way."""
        self._asked = (transaction, unit, pdu[0])
        body = bytes((unit,)) + pdu
        return body + crc(body).to_bytes(2, "little")

    def cut(self, data: Data, at: int, end: int) -> Cut | None:
        """Cut the next frame out; None while it is not complete."""
        size = _size(data, at, end)
        if size is None or end - at < size:
            return None
        body = bytes(data[at : at + size - 2])
        if crc(body) != int.from_bytes(data[at + size - 2 : at + size], "little"):
            raise NotModbus("the checksum is wrong")
        return self._transaction_of(body), body[1:], size

    def _transaction_of(self, body: bytes) -> int:
        if self._asked is None:
            return FOREIGN
        transaction, unit, function = self._asked
        is_ours = body[0] == unit and body[1] & ~_EXCEPTION_BIT == function
        return transaction if is_ours else FOREIGN


def crc(data: bytes) -> int:
    """Work out the CRC of a serial frame."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE: Final = tuple(map(_table_entry, range(256)))


def _size(data: Data, at: int, end: int) -> int | None:
    """Tell how long the frame at `at` is; None while that is not known; raises `NotModbus`."""
    if end - at < 3:
        return None
    function = data[at + 1]
    if function & _EXCEPTION_BIT:
        return 5
    if 1 <= function <= 4:
        size = 5 + data[at + 2]
    elif function == identity.FUNCTION:
        told = identity.answer_bytes(data[at + 1 : end])
        if told is None:
            return None
        size = told + 3
    else:
        size = _FIXED.get(function, 0)
    if not 0 < size <= _RTU_MAX:
        msg = f"function {function} with {size} bytes"
        raise NotModbus(msg)
    return size
