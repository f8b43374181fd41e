"""What the log carries: one record is one batch, in Avro with the Confluent wire format.

The wire format is one zero byte, the schema's id as four bytes big endian, then Avro. Schemas lie
in `schemas/`; `central.messaging.registry` gives their ids.
"""

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import fastavro
import msgpack
import numpy as np
from numpy.typing import NDArray

from central.messaging.avro_readings import FEWEST_WRITTEN
from central.messaging.reading_batch import ReadingBatchCoding
from central.messaging.registry import FileRegistry, Schema, SchemaIds
from shared.clock import EARLIEST_US, LATEST_US
from shared.columns import Columns
from shared.errors import SpineError
from shared.rollups import ROLLUP, Rollups

_HEAD: Final = struct.Struct(">bI")
_READINGS: Final = "reading_batch"
_LONGEST_US: Final = 366 * 86_400_000_000
_AVRO_ERRORS: Final = (
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    KeyError,
    OverflowError,
    struct.error,
)


class RecordInvalid(SpineError):
    """A record's value is not one of ours, or its schema is not known here."""


class SchemaUnknown(RecordInvalid):
    """Nobody has told yet what the id before a record means: `RecordCodec.decode_again` asks."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadingRecord:
    """A batch of readings; `columns.series` are point ids, `received_at` is UTC in microseconds."""

    gateway_id: int
    epoch: int
    seq: int
    received_at: int
    columns: Columns


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A batch of events; each is a map of docs/reference/link.md.

    In a `gap` event `series` has become `points`: closed ranges of point ids (`resolve_series`).
    """

    gateway_id: int
    epoch: int
    seq: int
    received_at: int
    count: int
    events: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A batch that could not be read, as it came, with the reason."""

    gateway_id: int
    epoch: int
    seq: int
    received_at: int
    count: int
    kind: str
    code: str
    detail: str
    point_set: bytes
    body: bytes


@dataclass(frozen=True, slots=True, eq=False)
class RollupRecord:
    """A batch of rollups; the series of `rollups` are point ids."""

    gateway_id: int
    epoch: int
    seq: int
    received_at: int
    rollups: Rollups


LogRecord = ReadingRecord | EventRecord | DeadRecord | RollupRecord


def resolve_series(
    ranges: Sequence[Sequence[int]], point_ids: NDArray[np.int32]
) -> list[list[int]]:
    """Turn closed ranges of series indices into closed ranges of point ids, sorted and merged.

    Raises IndexError for an index outside the point set.
    """
    picked: list[NDArray[np.int32]] = []
    for first, last in ranges:
        if not 0 <= first <= last < len(point_ids):
            msg = f"series {first}..{last} outside a point set of {len(point_ids)}"
            raise IndexError(msg)
        picked.append(point_ids[first : last + 1])
    if not picked:
        return []
    ids = np.unique(np.concatenate(picked))
    cuts = np.flatnonzero(np.diff(ids) != 1) + 1
    return [[int(run[0]), int(run[-1])] for run in np.split(ids, cuts)]


class RecordCodec:
    """Writes and reads records under the schemas and ids of a registry; any thread may use it."""

    def __init__(self, ids: SchemaIds | None = None) -> None:
        self._ids: SchemaIds = ids or FileRegistry.load()
        self._readings = ReadingBatchCoding.of(self._ids.newest(_READINGS).coding)

    def encode(self, record: LogRecord) -> bytes:
        """Write a record's value under the newest schema of its kind.

        Raises `RegistryAway` while the registry has not yet told the schema's id.
        """
        schema = self._ids.newest(_name_of(record))
        head = _HEAD.pack(0, self._ids.id_of(schema))
        return head + (self._written_by_columns(record) or _written_by_rows(schema, record))

    def decode(self, value: bytes) -> LogRecord:
        """Read a record's value, whatever version of its schema wrote it.

        Raises `RecordInvalid` (of which `SchemaUnknown` is one); nothing else, whatever the bytes.
        With a registry it is final only after `decode_again`.
        """
        schema_id = _schema_id(value)
        meanings = self._ids.meanings(schema_id)
        if not meanings:
            raise SchemaUnknown(f"schema id {schema_id} is not known here")
        read = [self._attempt(written, value) for written in meanings]
        found = [record for record in read if not isinstance(record, RecordInvalid)]
        if len(found) > 1:
            names = " and ".join(written.subject for written in meanings)
            raise RecordInvalid(f"schema id {schema_id} has meant {names}: it can be either")
        if not found and isinstance(read[0], RecordInvalid):
            raise read[0]
        return found[0]

    async def decode_again(self, value: bytes) -> LogRecord:
        """Read a value that `decode` could not read, after asking the registry what its id means.

        Raises `RecordInvalid`, now for good; `RegistryAway`: try again later; `SchemaRefused`: a
        newer release wrote it and this one cannot read it.
        """
        await self._ids.learn(_schema_id(value))
        return self.decode(value)

    def _written_by_columns(self, record: LogRecord) -> bytes | None:
        if self._readings is None or not isinstance(record, ReadingRecord):
            return None
        if len(record.columns) < FEWEST_WRITTEN:
            return None
        return self._readings.encode(_around_readings(record), record.columns)

    def _attempt(self, written: Schema, value: bytes) -> LogRecord | RecordInvalid:
        try:
            return _RECORDS[written.name](self._read(written, value))
        except RecordInvalid as error:
            return error
        except _AVRO_ERRORS as error:
            invalid = RecordInvalid(f"not a {written.name}: {error}")
            invalid.__cause__ = error
            return invalid

    def _read(self, written: Schema, value: bytes) -> dict[str, Any]:
        newest = self._ids.newest(written.name)
        read = self._read_by_columns(written, newest, value)
        fields, end = read or _read_by_rows(written, newest, value)
        if end != len(value):
            raise RecordInvalid(f"{len(value) - end} bytes after a {written.name}")
        return fields

    def _read_by_columns(
        self, written: Schema, newest: Schema, value: bytes
    ) -> tuple[dict[str, Any], int] | None:
        if self._readings is None or written.name != _READINGS or written.id != newest.id:
            return None
        return self._readings.decode(value, _HEAD.size)


def _written_by_rows(schema: Schema, record: LogRecord) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.coding, _fields_of(record))
    return out.getvalue()


def _read_by_rows(written: Schema, newest: Schema, value: bytes) -> tuple[dict[str, Any], int]:
    source = io.BytesIO(value)
    source.seek(_HEAD.size)
    reader = None if written.id == newest.id else newest.coding
    fields: Any = fastavro.schemaless_reader(source, written.coding, reader)
    return dict(fields), source.tell()


def _schema_id(value: bytes) -> int:
    if len(value) < _HEAD.size or value[0] != 0:
        raise RecordInvalid("not in the Confluent wire format: no leading zero byte")
    return int(_HEAD.unpack_from(value)[1])


def _head(record: LogRecord) -> dict[str, Any]:
    return {
        "gateway": record.gateway_id,
        "epoch": record.epoch,
        "seq": record.seq,
        "received_at": record.received_at,
    }


def _name_of(record: LogRecord) -> str:
    return _NAMES[type(record)]


def _fields_of(record: LogRecord) -> dict[str, Any]:
    if isinstance(record, ReadingRecord):
        return {**_around_readings(record), "readings": _rows(record.columns)}
    if isinstance(record, RollupRecord):
        return {**_head(record), "rollups": _rollup_rows(record.rollups)}
    return _event_fields(record) if isinstance(record, EventRecord) else _dead_fields(record)


def _rollup_rows(rollups: Rollups) -> list[dict[str, Any]]:
    names = ["point_id", *(ROLLUP.names or ())[1:]]
    return [dict(zip(names, row, strict=True)) for row in rollups.tolist()]


def _around_readings(record: ReadingRecord) -> dict[str, Any]:
    texts = sorted(record.columns.texts.items())
    return {**_head(record), "texts": [{"row": row, "text": text} for row, text in texts]}


def _rows(columns: Columns) -> list[dict[str, Any]]:
    rows = zip(
        columns.series.tolist(),
        columns.observed_at.tolist(),
        columns.value.tolist(),
        columns.quality.tolist(),
        strict=True,
    )
    return [
        {"point_id": point_id, "observed_at": at, "value": value, "quality": quality}
        for point_id, at, value, quality in rows
    ]


def _event_fields(record: EventRecord) -> dict[str, Any]:
    return {
        **_head(record),
        "count": record.count,
        "events": [
            {"event": str(event.get("event", "")), "body": msgpack.packb(event, use_bin_type=True)}
            for event in record.events
        ],
    }


def _dead_fields(record: DeadRecord) -> dict[str, Any]:
    return {
        **_head(record),
        "count": record.count,
        "kind": record.kind,
        "code": record.code,
        "detail": record.detail,
        "point_set": record.point_set,
        "body": record.body,
    }


def _named(fields: dict[str, Any]) -> tuple[int, int, int, int]:
    if not EARLIEST_US <= fields["received_at"] <= LATEST_US:
        raise RecordInvalid("received_at lies outside the years 1 to 9999")
    return fields["gateway"], fields["epoch"], fields["seq"], fields["received_at"]


def _to_readings(fields: dict[str, Any]) -> ReadingRecord:
    found = fields["readings"]
    columns = found if isinstance(found, Columns) else _to_columns(found)
    texts = {row["row"]: row["text"] for row in fields["texts"]}
    if texts:
        first, last = min(texts), max(texts)
        if not 0 <= first <= last < len(columns):
            raise RecordInvalid(f"texts for rows {first}..{last} of {len(columns)} readings")
        columns = replace(columns, texts=texts)
    return ReadingRecord(*_named(fields), columns)


def _to_columns(rows: list[dict[str, Any]]) -> Columns:
    return Columns.of(
        [row["point_id"] for row in rows],
        [row["observed_at"] for row in rows],
        [row["value"] for row in rows],
        [row["quality"] for row in rows],
    )


def _to_events(fields: dict[str, Any]) -> EventRecord:
    try:
        events = [
            msgpack.unpackb(event["body"], raw=False, strict_map_key=False)
            for event in fields["events"]
        ]
    except msgpack.exceptions.UnpackException as error:
        raise RecordInvalid(f"an event is not msgpack: {error}") from error
    if not all(isinstance(event, dict) for event in events):
        raise RecordInvalid("an event is no map")
    return EventRecord(*_named(fields), fields["count"], events)


def _to_rollups(fields: dict[str, Any]) -> RollupRecord:
    names = ["point_id", *(ROLLUP.names or ())[1:]]
    rows = [tuple(row[name] for name in names) for row in fields["rollups"]]
    rollups = np.array(rows, ROLLUP)
    if rows:
        _check_windows(rollups)
    return RollupRecord(*_named(fields), rollups)


def _check_windows(rollups: Rollups) -> None:
    starts, widths = rollups["start"], rollups["width"]
    if starts.min() < EARLIEST_US or starts.max() > LATEST_US - _LONGEST_US:
        raise RecordInvalid("a window lies outside the years 1 to 9999")
    if widths.min() < 1 or widths.max() > _LONGEST_US:
        raise RecordInvalid(f"windows of {widths.min()} to {widths.max()} µs")


def _to_dead(fields: dict[str, Any]) -> DeadRecord:
    return DeadRecord(
        *_named(fields),
        fields["count"],
        fields["kind"],
        fields["code"],
        fields["detail"],
        fields["point_set"],
        fields["body"],
    )


_RECORDS: Final[Mapping[str, Callable[[dict[str, Any]], LogRecord]]] = {
    _READINGS: _to_readings,
    "event_batch": _to_events,
    "dead_batch": _to_dead,
    "rollup_batch": _to_rollups,
}
_NAMES: Final[Mapping[type[LogRecord], str]] = {
    ReadingRecord: _READINGS,
    EventRecord: "event_batch",
    DeadRecord: "dead_batch",
    RollupRecord: "rollup_batch",
}
