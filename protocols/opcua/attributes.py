"""What nodes say of themselves: the answers to a read of any attributes, one by one.

For browsing and writing, where there are few; the readings of points take `codec`.
"""

from dataclasses import dataclass
from typing import Final

from protocols.opcua.binary import STRING, U8, U32, Malformed, Reader
from protocols.opcua.codec import skip_header
from protocols.opcua.scalars import read_scalar

EXTENSION_OBJECT: Final = 22
_GOOD_LIMIT: Final = 1 << 30
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Told:
    """One attribute's value: its built-in type, its form, and what it holds as far as it is shown.

    `length` is the number of elements of an array, None for a scalar. `body` is an undecoded
    structure.
    """

    status: int = 0
    kind: int = 0
    length: int | None = None
    number: float | None = None
    text: str | None = None
    body: bytes | None = None

    @property
    def is_good(self) -> bool:
        """Tell whether there is a value to rely on."""
        return self.status < _GOOD_LIMIT and self.kind != 0

    @property
    def whole(self) -> int | None:
        """The value as a whole number, if it is one."""
        return None if self.number is None or not self.is_good else int(self.number)

    def shown(self) -> str:
        """Write the value for a person; empty if there is none."""
        if not self.is_good:
            return ""
        if self.length is not None:
            return f"{self.length} elements"
        if self.text is not None:
            return self.text[:_SHOWN]
        return "" if self.number is None else f"{self.number:.10g}"


def decode_told(data: bytes, count: int) -> list[Told]:
    """Decode a ReadResponse of `count` attributes; raises `Malformed`."""
    reader = Reader(data)
    skip_header(reader)
    found = reader.count()
    if found != count:
        msg = f"{found} values answered where {count} were asked"
        raise Malformed(msg)
    return [_told(reader) for _ in range(count)]


def unit_of(told: Told) -> str:
    """Take the name of the unit out of an EUInformation (Part 8, 5.6.4); empty if there is none."""
    if told.kind != EXTENSION_OBJECT or told.body is None:
        return ""
    reader = Reader(told.body)
    try:
        reader.raw()  # whose list of units it is
        reader.skip(4)
        name = reader.localized_text() or b""
    except Malformed:
        return ""
    return name.decode(errors="replace")[:_SHOWN]


def _told(reader: Reader) -> Told:
    mask = reader.take(U8)
    value = _value(reader) if mask & 0x01 else Told()
    status = int(reader.take(U32)) if mask & 0x02 else 0
    sizes = (8, 2, 8, 2)  # source time and its picoseconds, server time and its picoseconds
    bits = (0x04, 0x10, 0x08, 0x20)
    reader.skip(sum(size for size, bit in zip(sizes, bits, strict=True) if mask & bit))
    return Told(status, value.kind, value.length, value.number, value.text, value.body)


def _value(reader: Reader) -> Told:
    mask = reader.take(U8)
    kind = mask & 0x3F
    if mask & 0x80:
        return _array(reader, mask, kind)
    if kind == EXTENSION_OBJECT:
        _, body = reader.extension()
        return Told(0, kind, body=body)
    _, number, text = read_scalar(reader, kind)
    return Told(0, kind, None, number, text)


def _array(reader: Reader, mask: int, kind: int) -> Told:
    start = reader.at
    length = reader.count()
    reader.at = start
    reader.skip_typed(kind, is_array=True)
    if mask & 0x40:
        reader.skip(4 * reader.count())
    return Told(0, kind, length)


def decode_strings(data: bytes) -> list[str]:
    """Decode a ReadResponse of one array of strings; raises `Malformed`, empty if there is none."""
    reader = Reader(data)
    skip_header(reader)
    if reader.count() != 1 or not reader.take(U8) & 0x01:
        return []
    if reader.take(U8) != STRING | 0x80:
        return []
    return [(reader.raw() or b"").decode(errors="replace") for _ in range(reader.count())]
