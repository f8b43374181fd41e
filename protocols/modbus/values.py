"""From the bytes of a device to values and qualities, all points of one kind at once.

The bytes of all answers of a read lie in one *image*. Where each byte of each value lies is worked
out once, byte order included, so that decoding is one gather per kind of value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.modbus.exponents import Exponents
from protocols.modbus.options import BITS, Half, ModbusPointOptions, Order, ValueType
from protocols.modbus.texts import TextPlace, read_texts, text_place
from shared.quality import Reason, bad

NOT_IMPLEMENTED: Final = bad(Reason.NOT_IMPLEMENTED)
NOT_A_NUMBER: Final = bad(Reason.NOT_A_NUMBER)

NUMBER_FORMATS: Final[dict[ValueType, str]] = {
    "uint8": "B",
    "int8": "b",
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
    "bcd16": "H",
    "bcd32": "I",
}
"""How the bytes of a raw value are read, most significant first; a BCD's as its digits."""

_EXACT_LIMIT: Final = 2**31


@dataclass(frozen=True, slots=True)
class Placed:
    """A point, its row in the plan, where its bytes begin in the image, and its byte order."""

    row: int
    at: int
    options: ModbusPointOptions
    order: Order
    scale_at: int | None = None
    """Where its register with the power of ten begins in the image."""


@dataclass(frozen=True, slots=True, eq=False)
class Sentinels:
    """Raw values that mean 'not implemented': value `at[i]` of a gather, if it is `raw[i]`."""

    at: NDArray[np.intp]
    raw: NDArray[Any]
    rows: NDArray[np.intp]

    def mark(self, raw: NDArray[Any], quality: NDArray[np.uint16]) -> None:
        """Mark the rows that hold one of their sentinels, unless they failed anyway."""
        rows = self.rows[raw[self.at] == self.raw]
        quality[rows[quality[rows] == 0]] = NOT_IMPLEMENTED


@dataclass(frozen=True, slots=True, eq=False)
class Gather:
    """All points of one kind: which image bytes, as which type, into which rows."""

    rows: NDArray[np.intp] | slice
    index: NDArray[np.intp]
    dtype: np.dtype[Any]
    sentinels: Sentinels | None = None
    is_bcd: bool = False
    masks: NDArray[np.uint8] | None = None

    def into(
        self, image: NDArray[np.uint8], value: NDArray[np.float64], quality: NDArray[np.uint16]
    ) -> None:
        """Decode the points' raw values out of the image, marking the sentinels."""
        taken = image[self.index]
        if self.masks is not None:
            value[self.rows] = (taken & self.masks) != 0
            return
        raw = taken.view(self.dtype)
        value[self.rows] = _from_digits(raw) if self.is_bcd else raw
        if self.sentinels is not None:
            self.sentinels.mark(raw, quality)


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """How an image becomes the value and quality columns of a plan."""

    gathers: tuple[Gather, ...]
    scaling: "Scaling | None"
    exponents: Exponents | None = None
    texts: tuple[TextPlace, ...] = ()

    def decode(self, image: NDArray[np.uint8], quality: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Give the values of all rows, NaN where `quality` is or becomes bad.

        `quality` comes with the rows that could not be read already marked, and is completed: a
        sentinel is `NOT_IMPLEMENTED`; NaN, infinity and what scaling overflows `NOT_A_NUMBER`.
        """
        value = np.empty(len(quality), np.float64)
        for text in self.texts:
            value[text.row] = 0.0  # none, which is not wrong
        with np.errstate(over="ignore", invalid="ignore"):  # any bytes may come, also such NaNs
            for gather in self.gathers:
                gather.into(image, value, quality)
            if self.exponents is not None:
                self.exponents.apply(image, value, quality)
            if self.scaling is not None:
                value = self.scaling.apply(value)
        finite = np.isfinite(value)
        if np.count_nonzero(finite) < len(value):  # far cheaper than `all`, as below than `any`
            quality[~finite & (quality == 0)] = NOT_A_NUMBER
        if np.count_nonzero(quality):
            value[quality != 0] = np.nan
        return value

    def read_texts(
        self, image: NDArray[np.uint8], value: NDArray[np.float64], quality: NDArray[np.uint16]
    ) -> dict[int, str]:
        """Give the texts by row, which have no value; after `decode`."""
        found = read_texts(self.texts, image, quality)
        value[[text.row for text in self.texts]] = np.nan
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Raw * factor / divisor + offset per row; None where it changes nothing.

    A scale of 0.1 divides by 10 and 0.15 multiplies by 3 and divides by 20: so the value is the
    decimal that the device means (1235 tenths are 123.5, 3 tenths 0.3 and not 0.30000000000000004).
    """

    factor: NDArray[np.float64] | None
    divisor: NDArray[np.float64] | None
    offset: NDArray[np.float64] | None

    def apply(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale raw values."""
        if self.factor is not None:
            value = value * self.factor
        if self.divisor is not None:
            value = value / self.divisor
        if self.offset is not None:
            value = value + self.offset
        return value


def decoder(points: Sequence[Placed]) -> Decoder:
    """Work out once how the points are decoded; their rows are 0 … n-1 in any order."""
    kinds: dict[ValueType, list[Placed]] = {}
    texts = []
    for point in points:
        kind = point.options.type
        if kind == "string":
            texts.append(text_place(point.row, point.at, point.options.width, point.order))
        else:
            kinds.setdefault(kind, []).append(point)
    gathers = [
        _bits(several) if kind == "bool" else _numbers(kind, several)
        for kind, several in kinds.items()
    ]
    exponents = Exponents.of(
        [_scale_place(point) for point in points if point.scale_at is not None]
    )
    return Decoder(tuple(gathers), _scaling(points), exponents, tuple(texts))


def _scale_place(point: Placed) -> tuple[int, int, int]:
    high, low = byte_places("int16", point.order)
    at = point.scale_at or 0
    return point.row, at + high, at + low


def byte_places(kind: ValueType, order: Order) -> list[int]:
    """List, most significant first, where the bytes of a value lie from its first byte on."""
    places = list(range(max(1, BITS[kind] // 16) * 2))
    if order in {"cdab", "dcba"}:
        places = [place for word in range(len(places), 0, -2) for place in (word - 2, word - 1)]
    if order in {"badc", "dcba"}:
        places = [place ^ 1 for place in places]
    return places


def byte_in_register(half: Half | None, order: Order) -> int:
    """Tell which byte of a register, as sent, is its high or its low half."""
    return byte_places("uint16", order)[half != "high"]


def _numbers(kind: ValueType, points: list[Placed]) -> Gather:
    index = np.array([point.at + place for point in points for place in _places(point)], np.intp)
    dtype = np.dtype(f">{NUMBER_FORMATS[kind]}")
    is_bcd = kind.startswith("bcd")
    return Gather(_rows(points), index, dtype, _sentinels(points, dtype), is_bcd)


def _places(point: Placed) -> list[int]:
    kind = point.options.type
    if kind == "string":
        return []
    if BITS[kind] == 8:
        return [byte_in_register(point.options.byte, point.order)]
    return byte_places(kind, point.order)


def _from_digits(raw: NDArray[Any]) -> NDArray[np.float64]:
    """Read four bits a decimal digit; NaN where one of them is no digit."""
    value = np.zeros(len(raw), np.float64)
    for shift in range(8 * raw.itemsize - 4, -1, -4):
        digit = (raw >> shift) & 0xF
        value = value * 10 + np.where(digit > 9, np.nan, digit)
    return value


def _bits(points: list[Placed]) -> Gather:
    index, masks = [], []
    for point in points:
        bit = point.options.bit
        if bit is None:  # a coil or discrete input: the image holds one byte for each
            index.append(point.at)
            masks.append(1)
        else:
            index.append(point.at + byte_in_register("high" if bit >= 8 else "low", point.order))
            masks.append(1 << bit % 8)
    return Gather(
        _rows(points),
        np.array(index, np.intp),
        np.dtype(np.uint8),
        masks=np.array(masks, np.uint8),
    )


def _rows(points: list[Placed]) -> NDArray[np.intp] | slice:
    rows = [point.row for point in points]
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return np.array(rows, np.intp)


def _sentinels(points: list[Placed], dtype: np.dtype[Any]) -> Sentinels | None:
    pairs = [
        (at, _raw_sentinel(sentinel, dtype), point.row)
        for at, point in enumerate(points)
        for sentinel in point.options.sentinels
    ]
    if not pairs:
        return None
    at, raw, rows = zip(*pairs, strict=True)
    return Sentinels(np.array(at, np.intp), np.array(raw, dtype), np.array(rows, np.intp))


def _raw_sentinel(sentinel: float, dtype: np.dtype[Any]) -> float:
    """Read a bit pattern written for a signed type (0x8000) as the number it stands for."""
    bits = 8 * dtype.itemsize
    if dtype.kind == "i" and sentinel >= 1 << (bits - 1):
        return sentinel - (1 << bits)
    return sentinel


def _scaling(points: Sequence[Placed]) -> Scaling | None:
    factor, divisor, offset = np.ones(len(points)), np.ones(len(points)), np.zeros(len(points))
    for point in points:
        factor[point.row], divisor[point.row] = _ratio(point.options.scale)
        offset[point.row] = point.options.offset
    scaling = Scaling(
        factor if (factor != 1).any() else None,
        divisor if (divisor != 1).any() else None,
        offset if (offset != 0).any() else None,
    )
    changes = (scaling.factor, scaling.divisor, scaling.offset)
    return None if all(change is None for change in changes) else scaling


def _ratio(scale: float) -> tuple[float, float]:
    exact = Fraction(repr(scale))
    if abs(exact.numerator) < _EXACT_LIMIT and exact.denominator < _EXACT_LIMIT:
        return float(exact.numerator), float(exact.denominator)
    return scale, 1.0
