"""Reading OPC UA's binary encoding: every built-in type can be skipped, also one nobody knows.

Source: OPC UA Part 6, 5.2. What a body carries inside an ExtensionObject is never decoded, only
stepped over by its length, so that one odd value cannot take its neighbours along.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

MAX_DEPTH: Final = 32
"""Nested variants and diagnostics beyond this are refused; Part 6 asks decoders for a limit."""

U8: Final = struct.Struct("<B")
U16: Final = struct.Struct("<H")
U32: Final = struct.Struct("<I")
I32: Final = struct.Struct("<i")
I64: Final = struct.Struct("<q")

BOOLEAN, STRING, LOCALIZED_TEXT = 1, 12, 21
NUMBERS: Final[dict[int, struct.Struct]] = {
    kind: struct.Struct(f"<{letter}")
    for kind, letter in zip(range(1, 12), "?bBhHiIqQfd", strict=True)
}
"""Scalar type ids (Part 6, 5.1.2) that a number can hold: Boolean, SByte … Double."""
_FIXED: Final = {kind: layout.size for kind, layout in NUMBERS.items()} | {13: 8, 14: 16, 19: 4}


class Malformed(ValueError):
    """The bytes are not what the encoding allows, or end too early."""


class Reader:
    """Walks through encoded bytes; every step is checked against their end."""

    __slots__ = ("at", "data", "depth")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at
        self.depth = 0

    def take(self, layout: struct.Struct) -> Any:
        """Read one number of the given layout."""
        start = self.at
        self.skip(layout.size)
        return layout.unpack_from(self.data, start)[0]

    def skip(self, size: int) -> None:
        """Step over bytes."""
        self.at += size
        if size < 0 or self.at > len(self.data):
            msg = f"{size} bytes wanted at {self.at - size} of {len(self.data)}"
            raise Malformed(msg)

    def count(self) -> int:
        """Read the length of an array; null is empty. No element takes less than one byte."""
        count = max(0, int(self.take(I32)))
        if count > len(self.data) - self.at:
            msg = f"{count} elements do not fit into {len(self.data) - self.at} bytes"
            raise Malformed(msg)
        return count

    def raw(self) -> bytes | None:
        """Read a string's or byte string's bytes; None is null."""
        length = self.take(I32)
        if length < 0:
            return None
        start = self.at
        self.skip(length)
        return self.data[start : self.at]

    def localized_text(self) -> bytes | None:
        """Read a localized text's bytes, without its locale."""
        mask = self.take(U8)
        if mask & 0x01:
            self.raw()
        return self.raw() if mask & 0x02 else None

    def node_id(self) -> int | None:
        """Read a node id (expanded or not); gives the number of a standard one, else None."""
        mask = self.take(U8)
        form = mask & 0x3F
        if form == 0:
            number: int | None = self.take(U8)
        elif form == 1:
            number = self._standard(self.take(U8), self.take(U16))
        elif form == 2:
            number = self._standard(self.take(U16), self.take(U32))
        else:
            number = None
            self._skip_named(form)
        if mask & 0x80:
            self.raw()
        if mask & 0x40:
            self.skip(4)
        return number

    def _standard(self, namespace: int, number: int) -> int | None:
        return number if namespace == 0 else None

    def _skip_named(self, form: int) -> None:
        self.skip(2)
        if form == 4:
            self.skip(16)
        elif form in {3, 5}:
            self.raw()
        else:
            msg = f"node id of unknown form {form}"
            raise Malformed(msg)

    def extension(self) -> tuple[int | None, bytes | None]:
        """Read an ExtensionObject: the number of its type, and its body undecoded."""
        kind = self.node_id()
        form = self.take(U8)
        if form > 2:
            msg = f"extension object of unknown form {form}"
            raise Malformed(msg)
        return kind, self.raw() if form else None

    def skip_variant(self) -> None:
        """Step over a variant of any type and shape."""
        mask = self.take(U8)
        self.skip_typed(mask & 0x3F, is_array=bool(mask & 0x80))
        if mask & 0x40:
            self.skip(4 * self.count())

    def skip_typed(self, kind: int, *, is_array: bool) -> None:
        """Step over a value of a type id, or over an array of such values."""
        count = self.count() if is_array else 1
        size = 0 if kind == 0 else _FIXED.get(kind)
        if size is not None:
            self.skip(size * count)
            return
        # Ids that are not in use yet are byte strings (Part 6, 5.2.2.16).
        step = _STEPS.get(kind, Reader.raw)
        self._descend()
        for _ in range(count):
            step(self)
        self.depth -= 1

    def skip_data_value(self) -> None:
        """Step over a DataValue."""
        mask = self.take(U8)
        if mask & 0x01:
            self.skip_variant()
        sizes = (4, 8, 8, 2, 2)  # status, source and server time, their picoseconds
        self.skip(sum(size for bit, size in enumerate(sizes, 1) if mask >> bit & 1))

    def skip_diagnostic(self) -> None:
        """Step over a DiagnosticInfo."""
        mask = self.take(U8)
        self.skip(4 * (mask & 0x0F).bit_count())
        if mask & 0x10:
            self.raw()
        if mask & 0x20:
            self.skip(4)
        if mask & 0x40:
            self._descend()
            self.skip_diagnostic()
            self.depth -= 1

    def _descend(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            msg = f"nested more than {MAX_DEPTH} deep"
            raise Malformed(msg)


def _qualified_name(reader: Reader) -> None:
    reader.skip(2)
    reader.raw()


_STEPS: Final[dict[int, Callable[[Reader], object]]] = {
    17: Reader.node_id,
    18: Reader.node_id,
    20: _qualified_name,
    LOCALIZED_TEXT: Reader.localized_text,
    22: Reader.extension,
    23: Reader.skip_data_value,
    24: Reader.skip_variant,
    25: Reader.skip_diagnostic,
}
