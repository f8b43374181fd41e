"""Arrays of Sparkplug B: packed little-endian into one field (specification 3.0.0, 6.4.17)."""

import struct
from collections.abc import Sequence
from typing import Final

MAX_ELEMENTS: Final = 10_000


def unpack_numbers(form: str, raw: bytes) -> tuple[int, ...] | tuple[float, ...]:
    """Read numbers; `form` is that of `struct`. Raises ValueError."""
    count, rest = divmod(len(raw), struct.calcsize(f"<{form}"))
    if rest:
        msg = f"{len(raw)} bytes are no array of {form}"
        raise ValueError(msg)
    return struct.unpack(f"<{_allowed(count)}{form}", raw)


def pack_numbers(form: str, values: Sequence[float]) -> bytes:
    """Write numbers; raises struct.error for one that does not fit."""
    return struct.pack(f"<{_allowed(len(values))}{form}", *values)


def unpack_booleans(raw: bytes) -> tuple[bool, ...]:
    """Read booleans: their count in four bytes, then bits, the first one highest."""
    count = int.from_bytes(raw[:4], "little")
    if len(raw) < 4 or len(raw) - 4 != (_allowed(count) + 7) // 8:
        msg = f"{count} booleans do not lie in {len(raw)} bytes"
        raise ValueError(msg)
    return tuple(bool(raw[4 + at // 8] >> (7 - at % 8) & 1) for at in range(count))


def pack_booleans(values: Sequence[bool]) -> bytes:
    """Write booleans."""
    packed = bytearray((_allowed(len(values)) + 7) // 8)
    for at, value in enumerate(values):
        packed[at // 8] |= bool(value) << (7 - at % 8)
    return len(values).to_bytes(4, "little") + packed


def unpack_texts(raw: bytes) -> tuple[str, ...]:
    """Read texts, each ended by a zero byte."""
    if not raw:
        return ()
    if raw[-1]:
        msg = "the last text has no end"
        raise ValueError(msg)
    _allowed(raw.count(0))
    return tuple(part.decode() for part in raw[:-1].split(b"\0"))


def pack_texts(values: Sequence[str]) -> bytes:
    """Write texts; raises ValueError for one with a zero in it."""
    _allowed(len(values))
    if any("\0" in value for value in values):
        msg = "a text has a zero in it"
        raise ValueError(msg)
    return b"".join(value.encode() + b"\0" for value in values)


def _allowed(count: int) -> int:
    if count > MAX_ELEMENTS:
        msg = f"more than {MAX_ELEMENTS:,} elements"
        raise ValueError(msg)
    return count
