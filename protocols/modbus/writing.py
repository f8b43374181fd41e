"""From a value to the request that writes it, the exact inverse of reading, and its answer.

Source: "MODBUS Application Protocol Specification" V1.1b3, 6.5 (one coil), 6.6 (one register), 6.12
(registers) and 6.16 (mask write: a bit or a byte of a register, without a race), 7 (exceptions).
"""

import math
import struct
from fractions import Fraction
from typing import Final

from protocols.modbus.options import BITS, ModbusPointOptions, Order
from protocols.modbus.values import NUMBER_FORMATS, byte_in_register, byte_places
from shared.errors import LinkLost, OptionsWrong, Refused

WRITE_COIL: Final = 5
WRITE_REGISTER: Final = 6
WRITE_REGISTERS: Final = 16
MASK_WRITE: Final = 22

_EXCEPTION_BIT: Final = 0x80
_MOST_WRITTEN: Final = 123
"""Registers of one `WRITE_REGISTERS`."""
_ECHOED: Final = 5
"""Of an answer to `WRITE_REGISTERS`: function, address and count."""

_REFUSALS: Final = {
    1: "it does not know this kind of write",
    2: "it has no such address, or it cannot be written",
    3: "it does not take this value",
    4: "it failed while it wrote",
    6: "it is busy; try again later",
    7: "it cannot do that now",
}
_NOBODY_KNOWS: Final = {
    5: "it has begun and does not say when it is done",
    0x0A: "the gateway in between has no path to it",
    0x0B: "the gateway in between got no answer from it",
}


def write_pdu(point: ModbusPointOptions, order: Order, value: float) -> bytes:
    """Write the request that makes the point read as `value`, to the nearest step of its scale.

    Raises `OptionsWrong` if the point cannot be written, or its type cannot hold the value.
    """
    _writable(point)
    if point.type == "string" or point.scale_register is not None:
        is_text = point.type == "string"
        what = "a string is written as a text" if is_text else "the device tells the scale"
        msg = f"{what}: a number is written to a number with a scale of its own"
        raise OptionsWrong(msg)
    if not math.isfinite(value):
        msg = f"{value} is no number that can be written"
        raise OptionsWrong(msg)
    if point.type == "bool":
        return _bit(point, order, value)
    data = _bytes(point, _raw(point, value))
    if BITS[point.number] == 8:
        at = byte_in_register(point.byte, order)
        return _masked(point.register_, at, 0xFF, data[0])
    return _registers(point.register_, _laid_out(point, order, data))


def write_text_pdu(point: ModbusPointOptions, order: Order, text: str) -> bytes:
    """Write the request that makes a string read as `text`, filled up with NUL.

    Raises `OptionsWrong` for a point that holds no text, and a text that does not fit or would be
    read as another one.
    """
    _writable(point)
    if point.type != "string":
        msg = f"a {point.type} is written as a number, not as a text"
        raise OptionsWrong(msg)
    data = text.encode()
    # Of a longer one the end stays as it was, so a NUL must come before it.
    size = 2 * point.width if point.width <= _MOST_WRITTEN else 2 * _MOST_WRITTEN - 1
    if not data or len(data) > size or b"\0" in data or text.endswith(" "):
        msg = f"a text of 1 to {size} bytes without NUL, and without a space at its end, is needed"
        raise OptionsWrong(msg)
    laid = bytearray(data.ljust(2 * point.width, b"\0"))
    if order in {"badc", "dcba"}:
        laid[::2], laid[1::2] = laid[1::2], laid[::2]
    return _registers(point.register_, bytes(laid[: 2 * _MOST_WRITTEN]))


def _writable(point: ModbusPointOptions) -> None:
    if point.table in {"discrete", "input"}:
        msg = f"the table {point.table} cannot be written; Modbus writes coil and holding"
        raise OptionsWrong(msg)


def check_written(pdu: bytes, answer: bytes) -> None:
    """Check the answer to a write.

    Raises `Refused` if the device says no, `LinkLost` if nobody can say whether it was written.
    """
    if answer[0] == pdu[0] | _EXCEPTION_BIT:
        code = answer[1]
        if code in _NOBODY_KNOWS:
            msg = f"Modbus: exception {code}: {_NOBODY_KNOWS[code]}"
            raise LinkLost(msg)
        msg = f"Modbus: the device answers exception {code}: {_REFUSALS.get(code, 'no reason')}"
        raise Refused(msg)
    echo = pdu[:_ECHOED] if pdu[0] == WRITE_REGISTERS else pdu
    if answer != echo:
        raise LinkLost("Modbus: the answer is not that of the write; nobody knows what it did")


def _bit(point: ModbusPointOptions, order: Order, value: float) -> bytes:
    if value not in {0, 1}:
        msg = f"a bool is written as 0 or 1, not {value:g}"
        raise OptionsWrong(msg)
    if point.bit is None:
        return struct.pack(">BHH", WRITE_COIL, point.register_, 0xFF00 if value else 0)
    mask = 1 << point.bit % 8
    at = byte_in_register("high" if point.bit >= 8 else "low", order)
    return _masked(point.register_, at, mask, mask if value else 0)


def _masked(register: int, at: int, mask: int, bits: int) -> bytes:
    """Set the bits under `mask` of byte `at` of a register and keep all others."""
    keep, put = bytearray(b"\xff\xff"), bytearray(2)
    keep[at], put[at] = 0xFF ^ mask, bits
    return struct.pack(">BH", MASK_WRITE, register) + keep + put


def _registers(register: int, data: bytes) -> bytes:
    if len(data) == 2:
        return struct.pack(">BH", WRITE_REGISTER, register) + data
    return struct.pack(">BHHB", WRITE_REGISTERS, register, len(data) // 2, len(data)) + data


def _raw(point: ModbusPointOptions, value: float) -> Fraction:
    """Undo offset and scale without rounding."""
    offset, scale = Fraction(repr(point.offset)), Fraction(repr(point.scale))
    return (Fraction(repr(value)) - offset) / scale


def _bytes(point: ModbusPointOptions, raw: Fraction) -> bytes:
    """Give the raw value as bytes, most significant first; raises `OptionsWrong`."""
    if point.type.startswith("float"):
        return _packed(point, float(raw))
    whole = round(raw)
    if point.type.startswith("bcd"):
        digits = BITS[point.number] // 4
        if not 0 <= whole < 10**digits:
            raise _does_not_fit(point, whole)
        return _not_a_sentinel(point, bytes.fromhex(f"{whole:0{digits}d}"))
    return _packed(point, whole)


def _packed(point: ModbusPointOptions, raw: float) -> bytes:
    try:
        return _not_a_sentinel(point, struct.pack(f">{NUMBER_FORMATS[point.number]}", raw))
    except (struct.error, OverflowError) as error:
        raise _does_not_fit(point, raw) from error


def _not_a_sentinel(point: ModbusPointOptions, data: bytes) -> bytes:
    """Refuse what would read as 'not implemented'."""
    kind = NUMBER_FORMATS[point.number]
    for sentinel in point.sentinels:
        if kind in "fd":
            meant = struct.pack(f">{kind}", sentinel)
        else:
            meant = (int(sentinel) % (1 << BITS[point.number])).to_bytes(len(data), "big")
        if data == meant:
            msg = f"{data.hex()} is what the device says for 'not implemented'"
            raise OptionsWrong(msg)
    return data


def _laid_out(point: ModbusPointOptions, order: Order, data: bytes) -> bytes:
    laid = bytearray(len(data))
    for byte, place in zip(data, byte_places(point.number, order), strict=True):
        laid[place] = byte
    return bytes(laid)


def _does_not_fit(point: ModbusPointOptions, raw: float) -> OptionsWrong:
    scaled = " after undoing scale and offset" if (point.scale, point.offset) != (1, 0) else ""
    return OptionsWrong(f"{raw:.15g}{scaled} does not fit a {point.type}")
