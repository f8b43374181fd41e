"""Batch bodies in plain Python, from `docs/reference/batch.md` alone; imports nothing of ours."""

import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby, islice, pairwise
from typing import NamedTuple

import zstandard

MASK = 2**64 - 1
LAST_SERIES = 2**31 - 1
MOST_READINGS = 1_000_000
MOST_BYTES = 64 * 2**20
NO_VALUE, HAS_TEXT, STATES = 1 << 16, 1 << 17, 1 << 18
MAGIC = b"SPNB"
HEAD = struct.Struct("<4sBBHIII")
CRC = struct.Struct("<I")
COUNTS = struct.Struct("<IIIIiqQ")
KINDS = (*(family + k for family in (0x00, 0x10, 0x20) for k in range(11)), 0x30, 0x40)


class Broken(Exception):
    """The bytes are no body; `code` is one of the reference."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Reading(NamedTuple):
    """One reading; `value` is None where there is none, and never NaN."""

    series: int
    time_us: int
    value: float | None
    quality: int = 0
    text: str | None = None

    @property
    def state(self) -> int:
        none, text = self.value is None, self.text is not None
        return self.quality + NO_VALUE * none + HAS_TEXT * text


def in_order(readings: Iterable[Reading]) -> list[Reading]:
    """Give the readings as a body gives them back: by series, then time; NaN is no value."""
    kept = [
        reading._replace(value=None)
        if reading.value is not None and math.isnan(reading.value)
        else reading
        for reading in readings
    ]
    return sorted(kept, key=lambda reading: (reading.series, reading.time_us))


# Integers


def zigzag(x: int) -> int:
    return ((x << 1) ^ (x >> 63)) & MASK


def unzigzag(u: int) -> int:
    return (u >> 1) ^ -(u & 1)


def signed(u: int) -> int:
    """Read the low 64 bits as two's complement."""
    return ((u & MASK) ^ (1 << 63)) - (1 << 63)


def width_of(numbers: Iterable[int]) -> int:
    return (max(numbers, default=0).bit_length() + 7) // 8


def planes(numbers: Sequence[int], width: int) -> bytes:
    return b"".join(bytes(n >> 8 * i & 255 for n in numbers) for i in range(width))


def column(numbers: Sequence[int]) -> bytes:
    width = width_of(numbers)
    return bytes([width]) + planes(numbers, width) if numbers else b""


# Values


def value_of(kind: int, m: int) -> float:
    """Give the value that an integer stands for."""
    if kind not in KINDS:
        raise Broken("not_a_batch")
    if kind == 0x30:
        bits = (m if m >= 0 else m ^ 0x7FFFFFFF) & 0xFFFFFFFF
        return float(struct.unpack("<f", bits.to_bytes(4, "little"))[0])
    if kind == 0x40:
        return as_double(m if m >= 0 else m ^ 0x7FFFFFFFFFFFFFFF)
    k = kind & 0x0F
    value = float(m) * 10.0**-k if kind & 0x10 else float(m) / 10.0**k
    return float(struct.unpack("<f", struct.pack("<f", value))[0]) if kind & 0x20 else value


def as_double(bits: int) -> float:
    return float(struct.unpack("<d", (bits & MASK).to_bytes(8, "little"))[0])


def bits_of(value: float, form: str) -> int:
    """Give the bits as a signed number; `form` is `<d` or `<f`."""
    return int.from_bytes(struct.pack(form, value), "little", signed=True)


def integer_for(kind: int, value: float) -> int:
    """Give the integer that is likeliest to stand for a value; the caller tries it."""
    if kind >= 0x30:
        form, low = ("<f", 0x7FFFFFFF) if kind == 0x30 else ("<d", 0x7FFFFFFFFFFFFFFF)
        bits = bits_of(value, form)
        return bits if bits >= 0 else bits ^ low
    k = kind & 0x0F
    return round(value / 10.0**-k if kind & 0x10 else value * 10.0**k)


def integers_for(kind: int, values: Sequence[float]) -> list[int] | None:
    """Give the integers of all values, or None where one would not come back to the bit."""
    try:
        numbers = [integer_for(kind, value) for value in values]
    except (OverflowError, ValueError):  # an infinity, or no binary32
        return None
    if any(m != signed(m) for m in numbers):
        return None
    back = (bits_of(value_of(kind, m), "<d") for m in numbers)
    return numbers if list(back) == [bits_of(value, "<d") for value in values] else None


def steps_of(numbers: Sequence[int]) -> list[int]:
    return [zigzag(signed(after - before)) for before, after in pairwise(numbers)]


def best_kind(values: Sequence[float]) -> tuple[int, list[int]]:
    """Give the kind with the smallest steps; 0x40 takes whatever there is."""
    tried = ((kind, integers_for(kind, values)) for kind in KINDS)
    fitting = [(kind, numbers) for kind, numbers in tried if numbers is not None]
    return min(fitting, key=lambda one: (width_of(steps_of(one[1])), zigzag(one[1][0])))


# Writing


def seal(readings: Iterable[Reading]) -> bytes:
    """Make a body of readings."""
    ordered = in_order(readings)
    series = [(key, list(group)) for key, group in groupby(ordered, lambda one: one.series)]
    runs = [(state, len(list(run))) for state, run in groupby(one.state for one in ordered)]
    texts = [one.text.encode() for one in ordered if one.text is not None]
    keys = [key for key, _ in series]
    codes, groups = grouped([tuple(one.time_us for one in rows) for _, rows in series])
    time0 = min((times[0] for times in groups), default=0)
    firsts = [times[0] - time0 for times in groups]
    steps = [after - before for times in groups for before, after in pairwise(times)]
    unit = math.gcd(*firsts, *steps) or 1
    head = (len(series), len(groups), len(runs), len(texts), keys[0] if keys else 0, time0, unit)
    columns = [
        [after - before - 1 for before, after in pairwise(keys)],
        codes,
        [len(times) - 1 for times in groups],
        [first // unit for first in firsts],
        [step // unit for step in steps],
        [length - 1 for _, length in runs],
        [state for state, _ in runs],
    ]
    values = values_section([[r.value for r in rows if r.value is not None] for _, rows in series])
    parts = [COUNTS.pack(*head), *map(column, columns), values, column([len(t) for t in texts])]
    return in_envelope(len(ordered), b"".join([*parts, *texts]))


def grouped(times_of: Iterable[tuple[int, ...]]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Give the group code of each series, and the times of each group."""
    codes: list[int] = []
    groups: list[tuple[int, ...]] = []
    opened: dict[tuple[int, ...], int] = {}
    for times in times_of:
        codes.append(len(groups) - opened[times] if times in opened else 0)
        if times not in opened:
            opened[times] = len(groups)
            groups.append(times)
    return codes, groups


def values_section(values_of: Iterable[list[float]]) -> bytes:
    chosen = [best_kind(values) for values in values_of if values]
    steps = [steps_of(numbers) for _, numbers in chosen]
    widths = [width_of(one) for one in steps]
    of_width = [
        planes(
            [step for one, width in zip(steps, widths, strict=True) if width == w for step in one],
            w,
        )
        for w in range(1, 9)
    ]
    firsts = column([zigzag(numbers[0]) for _, numbers in chosen])
    return b"".join([bytes(kind for kind, _ in chosen), bytes(widths), firsts, *of_width])


def in_envelope(count: int, payload: bytes) -> bytes:
    frame = zstandard.ZstdCompressor().compress(payload)
    head = HEAD.pack(MAGIC, 1, 1, 0, count, len(payload), len(frame))
    return head + CRC.pack(zlib.crc32(frame, zlib.crc32(head))) + frame


# Reading


class Head(NamedTuple):
    """What a payload begins with: how much of each is to come, and where the columns start."""

    series: int
    groups: int
    runs: int
    texts: int
    series0: int
    time0: int
    unit: int


class Cursor:
    """A place in a payload."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, size: int) -> bytes:
        taken = self._payload[self._at : self._at + size]
        demand(len(taken) == size, "truncated")
        self._at += size
        return taken

    def planes(self, n: int, width: int) -> list[int]:
        taken = self.take(n * width)
        return [int.from_bytes(taken[i::n], "little") for i in range(n)]

    def column(self, n: int) -> list[int]:
        if n == 0:
            return []
        width = self.take(1)[0]
        demand(width <= 8, "not_a_batch")
        return self.planes(n, width)

    def end(self) -> None:
        demand(self._at == len(self._payload), "not_a_batch")


def demand(holds: object, code: str) -> None:
    if not holds:
        raise Broken(code)


def unseal(body: bytes, points: int | None = None) -> list[Reading]:
    """Give the readings of a body; raises `Broken`. `points` is the length of the point set."""
    count, payload = out_of_envelope(body)
    cursor = Cursor(payload)
    head = Head(*COUNTS.unpack(cursor.take(COUNTS.size)))
    most = max(head.series, head.runs, head.texts)
    demand(most <= count and head.groups <= head.series, "count_mismatch")
    keys = keys_from(cursor, head, points)
    times = times_from(cursor, head, count)
    states = states_from(cursor, head, count)
    each = iter(states)
    valued = [sum(not state & NO_VALUE for state in islice(each, len(own))) for own in times]
    values = iter(values_from(cursor, [n for n in valued if n]))
    texts = iter(texts_from(cursor, head.texts))
    cursor.end()
    rows = ((key, when) for key, own in zip(keys, times, strict=True) for when in own)
    return [
        Reading(
            *row,
            None if state & NO_VALUE else next(values),
            state & 0xFFFF,
            next(texts) if state & HAS_TEXT else None,
        )
        for row, state in zip(rows, states, strict=True)
    ]


def out_of_envelope(body: bytes) -> tuple[int, bytes]:
    demand(body.startswith(MAGIC), "not_a_batch")
    demand(body[4:5] in {b"", b"\x01"}, "unknown_version")
    demand(len(body) >= HEAD.size + CRC.size, "truncated")
    _, _, kind, _, count, size, length = HEAD.unpack_from(body)
    (crc,) = CRC.unpack_from(body, HEAD.size)
    frame = body[HEAD.size + CRC.size :]
    demand(len(frame) >= length, "truncated")
    demand(len(frame) == length, "not_a_batch")
    demand(crc == zlib.crc32(frame, zlib.crc32(body[: HEAD.size])), "checksum")
    demand(kind == 1, "unknown_kind")
    demand(count <= MOST_READINGS, "too_large")
    return count, decompressed(frame, size)


def decompressed(frame: bytes, size: int) -> bytes:
    try:
        declared = zstandard.get_frame_parameters(frame).content_size
        demand(declared == size, "not_a_batch")
        demand(size <= MOST_BYTES, "too_large")
        stream = zstandard.ZstdDecompressor().decompressobj()
        payload = stream.decompress(frame)
    except zstandard.ZstdError as error:
        raise Broken("not_a_batch") from error
    demand(stream.eof and not stream.unused_data and len(payload) == size, "not_a_batch")
    return payload


def keys_from(cursor: Cursor, head: Head, points: int | None) -> list[int]:
    """Give the series."""
    numbers = cursor.column(max(head.series - 1, 0))
    steps = (number + 1 for number in numbers)
    keys = list(accumulate(steps, initial=head.series0))[: head.series]
    ends = keys[:1] + keys[-1:]
    demand(all(key <= LAST_SERIES for key in ends), "bad_series")
    demand(points is None or all(0 <= key < points for key in ends), "bad_series")
    return keys


def times_from(cursor: Cursor, head: Head, count: int) -> list[list[int]]:
    """Give the times of each series."""
    group_of = list(groups_from(cursor.column(head.series), head.groups))
    lengths = [number + 1 for number in cursor.column(head.groups)]
    demand(sum(lengths[group] for group in group_of) == count, "count_mismatch")
    firsts = cursor.column(head.groups)
    steps = iter(cursor.column(sum(lengths) - len(lengths)))
    groups = [
        list(
            one_group(signed(head.time0 + first * head.unit), islice(steps, length - 1), head.unit)
        )
        for first, length in zip(firsts, lengths, strict=True)
    ]
    return [groups[group] for group in group_of]


def groups_from(codes: Iterable[int], most: int) -> Iterator[int]:
    opened = 0
    for code in codes:
        demand(code <= opened, "not_a_batch")
        yield opened - code
        opened += code == 0
        demand(opened <= most, "count_mismatch")
    demand(opened == most, "count_mismatch")


def one_group(first: int, steps: Iterable[int], unit: int) -> Iterator[int]:
    yield first
    for step in steps:
        after = signed(first + step * unit)
        demand(after >= first, "not_a_batch")
        yield (first := after)


def states_from(cursor: Cursor, head: Head, count: int) -> list[int]:
    """Give the state of each reading."""
    lengths = [number + 1 for number in cursor.column(head.runs)]
    runs = cursor.column(head.runs)
    demand(sum(lengths) == count, "count_mismatch")
    demand(all(state < STATES for state in runs), "not_a_batch")
    states = [state for state, n in zip(runs, lengths, strict=True) for _ in range(n)]
    demand(sum(bool(state & HAS_TEXT) for state in states) == head.texts, "count_mismatch")
    return states


def values_from(cursor: Cursor, valued: Sequence[int]) -> list[float | None]:
    """Give the values; `valued` says how many each series has, leaving out those with none."""
    kinds, widths = cursor.take(len(valued)), cursor.take(len(valued))
    demand(all(kind in KINDS for kind in kinds), "not_a_batch")
    demand(all(width <= 8 for width in widths), "not_a_batch")
    firsts = cursor.column(len(valued))
    of_width = [
        iter(
            cursor.planes(sum(n - 1 for n, own in zip(valued, widths, strict=True) if own == w), w)
        )
        for w in range(9)
    ]
    numbers = [
        accumulate(
            map(unzigzag, islice(of_width[width], n - 1)),
            lambda before, step: signed(before + step),
            initial=signed(unzigzag(first)),
        )
        for first, n, width in zip(firsts, valued, widths, strict=True)
    ]
    values = (value_of(kind, m) for kind, own in zip(kinds, numbers, strict=True) for m in own)
    return [None if math.isnan(value) else value for value in values]


def texts_from(cursor: Cursor, n: int) -> list[str]:
    """Give the texts."""
    try:
        return [cursor.take(length).decode() for length in cursor.column(n)]
    except UnicodeDecodeError as error:
        raise Broken("not_a_batch") from error
