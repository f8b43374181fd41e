"""What a server answers, as columns: the values of a read and of a notification.

Source: OPC UA Part 6, 5.2.2.17 (DataValue) and Part 4, 5.11.2 (Read), 5.14.5 (Publish). A run of
values of one layout (the usual case) is decoded as one numpy array, all else one by one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocols.opcua.binary import BOOLEAN, I64, NUMBERS, U8, U32, Malformed, Reader
from protocols.opcua.scalars import (
    EITHER,
    NOTHING,
    NUMBER,
    OTHER,
    TEXT,
    Scalar,
    read_scalar,
)
from protocols.opcua.status import has_overflowed, quality_of
from shared.columns import Columns
from shared.quality import Reason, bad

_HAS_VALUE, _HAS_STATUS, _HAS_SOURCE_TIME, _HAS_SERVER_TIME = 0x01, 0x02, 0x04, 0x08
_HAS_SOURCE_PICOS, _HAS_SERVER_PICOS = 0x10, 0x20
_FILETIME_EPOCH_US: Final = 11_644_473_600_000_000
_DATA_CHANGE: Final = 811
_STATUS_CHANGE: Final = 820
_IS_ARRAY, _HAS_DIMENSIONS = 0x80, 0x40


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Data values as columns, as the server said them: FILETIME times (0 is none), status codes."""

    handle: NDArray[np.uint32]
    status: NDArray[np.uint32]
    source: NDArray[np.int64]
    server: NDArray[np.int64]
    value: NDArray[np.float64]
    carried: NDArray[np.uint8]
    texts: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the values."""
        return len(self.handle)


@dataclass(frozen=True, slots=True)
class Publication:
    """One answer to a publish request.

    `damaged` says that a notification could not be decoded, `ended` is the status with which the
    server ended the subscription.
    """

    subscription_id: int
    sequence: int
    is_keep_alive: bool
    changes: tuple[Values, ...] = ()
    damaged: bool = False
    ended: int | None = None


def decode_read(data: bytes, count: int) -> Values:
    """Decode a ReadResponse of `count` values; raises `Malformed`. `handle` is 0 … count-1."""
    reader = Reader(data)
    skip_header(reader)
    found = reader.count()
    if found != count:
        msg = f"{found} values answered where {count} were asked"
        raise Malformed(msg)
    return _values(reader, count, has_handle=False)


def decode_publish(data: bytes) -> Publication:
    """Decode a PublishResponse; raises `Malformed` only if its envelope cannot be read."""
    reader = Reader(data)
    skip_header(reader)
    subscription_id = reader.take(U32)
    reader.skip(4 * reader.count())  # the sequence numbers that could be asked for again
    reader.skip(1)  # whether more notifications wait: they come with the next answer
    sequence = reader.take(U32)
    reader.skip(8)  # publish time
    bodies = [reader.extension() for _ in range(reader.count())]
    changes: list[Values] = []
    damaged = False
    ended: int | None = None
    for kind, body in bodies:
        try:
            if kind == _DATA_CHANGE:
                changes.append(_decode_changes(body or b""))
            elif kind == _STATUS_CHANGE:
                ended = Reader(body or b"").take(U32)
        except Malformed:
            damaged = True
    return Publication(subscription_id, sequence, not bodies, tuple(changes), damaged, ended)


def to_columns(values: Values, is_text: NDArray[np.bool_], now_us: int) -> Columns:
    """Make readings: source time, else server time, else now; statuses as quality.

    `is_text[handle]` says which points are texts. A value of another kind than its point is bad
    with `BAD_PAYLOAD`; no value at all with a good status is bad with `NOT_YET_REPORTED`.
    """
    quality = _qualities(values.status)
    is_bad = quality >= bad(Reason.NONE) & 0x3000
    wants_text = is_text[values.handle]
    fits = values.carried == np.where(wants_text, TEXT, NUMBER)
    if values.texts:
        fits |= values.carried == EITHER
    quality[~is_bad & ~fits] = bad(Reason.BAD_PAYLOAD)
    quality[~is_bad & (values.carried == NOTHING)] = bad(Reason.NOT_YET_REPORTED)
    is_usable = fits & ~is_bad
    has_text = is_usable & wants_text
    texts = {row: text for row, text in values.texts.items() if has_text[row]}
    stamp = np.where(values.source > 0, values.source, values.server)
    observed_at = np.where(stamp > 0, stamp // 10 - _FILETIME_EPOCH_US, now_us)
    value = np.where(is_usable & ~wants_text, values.value, np.nan)
    return Columns(values.handle.astype(np.int32), observed_at, value, quality, texts)


def fell_behind(values: Values) -> bool:
    """Tell whether the server dropped values because a point's queue was full."""
    return any(has_overflowed(int(status)) for status in np.unique(values.status))


def failed(handles: NDArray[np.uint32], statuses: NDArray[np.uint32]) -> Values:
    """Make values of points for which there is a status alone."""
    count = len(handles)
    times = np.zeros(count, np.int64)
    carried = np.full(count, NOTHING, np.uint8)
    return Values(handles, statuses, times, times, np.full(count, np.nan), carried)


def within(values: Values, count: int) -> Values:
    """Leave out values under handles that were never given out."""
    if not len(values) or int(values.handle.max()) < count:
        return values
    rows = np.flatnonzero(values.handle < count)
    texts = {at: values.texts[row] for at, row in enumerate(rows.tolist()) if row in values.texts}
    return replace(
        values,
        **{
            name: getattr(values, name)[rows]
            for name in ("handle", "status", "source", "server", "value", "carried")
        },
        texts=texts,
    )


def _qualities(status: NDArray[np.uint32]) -> NDArray[np.uint16]:
    codes, rows = np.unique(status, return_inverse=True)
    known = np.array([quality_of(int(code)) for code in codes], np.uint16)
    return known[rows.reshape(-1)]


def _decode_changes(body: bytes) -> Values:
    reader = Reader(body)
    return _values(reader, reader.count(), has_handle=True)


def skip_header(reader: Reader) -> None:
    """Step over the header of a response."""
    reader.node_id()
    reader.skip(8 + 4 + 4)  # time, request handle, service result (checked by the session)
    reader.skip_diagnostic()
    for _ in range(reader.count()):
        reader.raw()
    reader.extension()


def _values(reader: Reader, count: int, *, has_handle: bool) -> Values:
    values = _uniform(reader, count, has_handle=has_handle)
    return values if values is not None else _one_by_one(reader, count, has_handle=has_handle)


def _uniform(reader: Reader, count: int, *, has_handle: bool) -> Values | None:
    """Decode values that all have the first one's layout at once; None if they have not."""
    start = reader.at + (4 if has_handle else 0)
    if count == 0 or start + 2 > len(reader.data):
        return None
    mask, kind = reader.data[start], reader.data[start + 1]
    layout = _layout(mask, kind, has_handle)
    if layout is None or reader.at + count * layout.itemsize > len(reader.data):
        return None
    rows = np.frombuffer(reader.data, layout, count, reader.at)
    fields = layout.names or ()
    if not ((rows["mask"] == mask).all() and (rows["kind"] == kind).all()):
        return None
    if "length" in fields and not (rows["length"] == 1).all():
        return None
    reader.skip(count * layout.itemsize)
    value = rows["value"].astype(np.float64)
    return Values(
        rows["handle"].astype(np.uint32) if has_handle else np.arange(count, dtype=np.uint32),
        rows["status"].astype(np.uint32) if "status" in fields else np.zeros(count, np.uint32),
        rows["source"].astype(np.int64) if "source" in fields else np.zeros(count, np.int64),
        rows["server"].astype(np.int64) if "server" in fields else np.zeros(count, np.int64),
        (value != 0).astype(np.float64) if kind & ~_IS_ARRAY == BOOLEAN else value,
        np.full(count, NUMBER, np.uint8),
    )


@lru_cache(maxsize=64)
def _layout(mask: int, kind: int, has_handle: bool) -> np.dtype[Any] | None:  # noqa: FBT001, RUF100 - lru_cache
    is_array = bool(kind & _IS_ARRAY)
    kind &= ~_IS_ARRAY
    if not mask & _HAS_VALUE or kind not in NUMBERS:
        return None
    number = "u1" if kind == BOOLEAN else NUMBERS[kind].format
    fields = [("mask", "u1"), ("kind", "u1"), ("value", number)]
    if is_array:
        fields.insert(2, ("length", "<i4"))
    optional = (
        (_HAS_STATUS, "status", "<u4"),
        (_HAS_SOURCE_TIME, "source", "<i8"),
        (_HAS_SOURCE_PICOS, "source_picos", "<u2"),
        (_HAS_SERVER_TIME, "server", "<i8"),
        (_HAS_SERVER_PICOS, "server_picos", "<u2"),
    )
    fields += [(name, form) for bit, name, form in optional if mask & bit]
    return np.dtype([("handle", "<u4"), *fields] if has_handle else fields)


def _one_by_one(reader: Reader, count: int, *, has_handle: bool) -> Values:
    handles, statuses = np.zeros(count, np.uint32), np.zeros(count, np.uint32)
    sources, servers = np.zeros(count, np.int64), np.zeros(count, np.int64)
    value, carried = np.full(count, np.nan), np.zeros(count, np.uint8)
    texts: dict[int, str] = {}
    for row in range(count):
        handles[row] = reader.take(U32) if has_handle else row
        mask = reader.take(U8)
        if mask & _HAS_VALUE:
            carried[row], number, text = _variant(reader)
            if text is not None:
                texts[row] = text
            if number is not None:
                value[row] = number
        if mask & _HAS_STATUS:
            statuses[row] = reader.take(U32)
        sources[row] = _stamp(reader, mask, _HAS_SOURCE_TIME, _HAS_SOURCE_PICOS)
        servers[row] = _stamp(reader, mask, _HAS_SERVER_TIME, _HAS_SERVER_PICOS)
    return Values(handles, statuses, sources, servers, value, carried, texts)


def _stamp(reader: Reader, mask: int, has_time: int, has_picos: int) -> int:
    stamp = int(reader.take(I64)) if mask & has_time else 0
    if mask & has_picos:
        reader.skip(2)
    return stamp


def _variant(reader: Reader) -> Scalar:
    """Read a variant; an array of one element is that element, as one asked by its index is."""
    mask = reader.data[reader.at] if reader.at < len(reader.data) else 0
    kind = mask & 0x3F
    if not mask & _IS_ARRAY:
        reader.skip(1)
        return read_scalar(reader, kind)
    start = reader.at
    reader.skip(1)
    if reader.count() != 1:
        reader.at = start
        reader.skip_variant()
        return OTHER, None, None
    found = read_scalar(reader, kind)
    if mask & _HAS_DIMENSIONS:
        reader.skip(4 * reader.count())
    return found
