"""What the log carries: one record is one batch, in Avro with the Confluent wire format.

The wire format is one zero byte, the schema's id as four bytes big endian, then Avro. Schemas lie
in `schemas/`; `central.messaging.registry` gives their ids.
"""

import io
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import fastavro
import msgpack
import numpy as np
from numpy.typing import NDArray

from central.messaging.registry import FileRegistry, Schema, SchemaIds
from shared.columns import Columns
from shared.errors import SpineError

_HEAD: Final = struct.Struct(">bI")
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


LogRecord = ReadingRecord | EventRecord | DeadRecord


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

    def encode(self, record: LogRecord) -> bytes:
        """Write a record's value under the newest schema of its kind.

        Raises `RegistryAway` while the registry has not yet told the schema's id.
        """
        if isinstance(record, ReadingRecord):
            name, fields = "reading_batch", _reading_fields(record)
        elif isinstance(record, EventRecord):
            name, fields = "event_batch", _event_fields(record)
        else:
            name, fields = "dead_batch", _dead_fields(record)
        schema = self._ids.newest(name)
        out = io.BytesIO()
        out.write(_HEAD.pack(0, self._ids.id_of(schema)))
        fastavro.schemaless_writer(out, schema.coding, fields)
        return out.getvalue()

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
        source = io.BytesIO(value)
        source.seek(_HEAD.size)
        reader = None if written.id == newest.id else newest.coding
        fields: Any = fastavro.schemaless_reader(source, written.coding, reader)
        if source.tell() != len(value):
            raise RecordInvalid(f"{len(value) - source.tell()} bytes after a {written.name}")
        return dict(fields)


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


def _reading_fields(record: ReadingRecord) -> dict[str, Any]:
    columns = record.columns
    rows = zip(
        columns.series.tolist(),
        columns.observed_at.tolist(),
        columns.value.tolist(),
        columns.quality.tolist(),
        strict=True,
    )
    return {
        **_head(record),
        "readings": [
            {"point_id": point_id, "observed_at": at, "value": value, "quality": quality}
            for point_id, at, value, quality in rows
        ],
        "texts": [{"row": row, "text": text} for row, text in sorted(columns.texts.items())],
    }


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
    return fields["gateway"], fields["epoch"], fields["seq"], fields["received_at"]


def _to_readings(fields: dict[str, Any]) -> ReadingRecord:
    rows = fields["readings"]
    texts = {row["row"]: row["text"] for row in fields["texts"]}
    if texts and not 0 <= min(texts) <= max(texts) < len(rows):
        raise RecordInvalid(f"texts for rows {min(texts)}..{max(texts)} of {len(rows)} readings")
    columns = Columns.of(
        [row["point_id"] for row in rows],
        [row["observed_at"] for row in rows],
        [row["value"] for row in rows],
        [row["quality"] for row in rows],
        texts,
    )
    return ReadingRecord(*_named(fields), columns)


def _to_events(fields: dict[str, Any]) -> EventRecord:
    try:
        events = [
            msgpack.unpackb(event["body"], raw=False, strict_map_key=False)
            for event in fields["events"]
        ]
    except msgpack.exceptions.UnpackException as error:
        raise RecordInvalid(f"an event is not msgpack: {error}") from error
    return EventRecord(*_named(fields), fields["count"], events)


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
    "reading_batch": _to_readings,
    "event_batch": _to_events,
    "dead_batch": _to_dead,
}
