"""The payload of Sparkplug B: a time, a sequence number and metrics.

Source: `sparkplug_b.proto` of the specification 3.0.0. A value stays raw until its type is known,
for a data message may leave the type to the birth (`Metric.value`). Data sets, templates, metadata
and nested property sets are passed over unread, so nothing here recurses.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from protocols.mqtt.shapes.sparkplug_b.datatypes import WIRES, DataType, Field, Value, read
from protocols.mqtt.shapes.sparkplug_b.datatypes import write as write_value
from protocols.mqtt.shapes.sparkplug_b.protobuf import (
    LENGTH,
    VARINT,
    Rule,
    WireInvalid,
    record,
    text,
    write,
)

MAX_BYTES: Final = 16 * 1_048_576
MAX_METRICS: Final = 20_000
MAX_NAME_BYTES: Final = 1_000
MAX_PROPERTIES: Final = 100

COMPRESSED: Final = "SPBV1.0_COMPRESSED"

_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_PROPERTY_SHIFT: Final = 7  # int_value is field 3 of a property and field 10 of a metric


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as a message says it; None is what the message leaves out."""

    name: str | None = None
    alias: int | None = None
    timestamp_ms: int | None = None
    datatype: int | None = None
    raw: Field | None = None
    is_null: bool = False
    is_historical: bool = False
    is_transient: bool = False
    properties: Mapping[str, Value] = field(default_factory=dict)

    def value(self, datatype: int) -> Value | None:
        """Read the value as a type, None if it is null or left out; raises `ValueUnfit`."""
        if self.is_null or self.raw is None:
            return None
        return read(datatype, self.raw)

    @classmethod
    def of(cls, name: str | None, datatype: DataType, value: Any, **more: Any) -> "Metric":
        """Make a metric with a value, null if it is None; raises `ValueUnfit`."""
        raw = None if value is None else write_value(datatype, value)
        return cls(name, datatype=datatype, raw=raw, is_null=value is None, **more)


@dataclass(frozen=True, slots=True)
class Payload:
    """What one message of an edge node says."""

    timestamp_ms: int | None = None
    seq: int | None = None
    metrics: Sequence[Metric] = ()


def decode(data: bytes) -> Payload:
    """Read a payload; raises `WireInvalid` and nothing else.

    One that the Tahu libraries compressed holds the payload meant in its body.
    """
    if len(data) > MAX_BYTES:
        msg = f"{len(data):,} bytes are more than {MAX_BYTES:,}"
        raise WireInvalid(msg)
    said = record(data, _PAYLOAD)
    if said.get("uuid") == COMPRESSED:
        said = record(_inflated(said.get("body", b"")), _PAYLOAD)
    return Payload(said.get("timestamp_ms"), said.get("seq"), said.get("metrics", ()))


def _inflated(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        data = unpacker.decompress(body, MAX_BYTES)
    except zlib.error as error:
        msg = f"a compressed payload cannot be read: {error}"
        raise WireInvalid(msg) from error
    if not unpacker.eof:
        msg = f"a compressed payload is cut off or has more than {MAX_BYTES:,} bytes"
        raise WireInvalid(msg)
    return data


def encode(payload: Payload) -> bytes:
    """Write a payload; properties are left out, for a command has none."""
    parts = []
    if payload.timestamp_ms is not None:
        parts.append(write(1, VARINT, payload.timestamp_ms))
    parts += [write(2, LENGTH, _encode_metric(metric)) for metric in payload.metrics]
    if payload.seq is not None:
        parts.append(write(3, VARINT, payload.seq))
    return b"".join(parts)


def _encode_metric(metric: Metric) -> bytes:
    parts = []
    if metric.name is not None:
        parts.append(write(1, LENGTH, metric.name.encode()))
    numbers = (metric.alias, metric.timestamp_ms, metric.datatype)
    parts += [write(at, VARINT, one) for at, one in enumerate(numbers, 2) if one is not None]
    flags = (metric.is_historical, metric.is_transient, metric.is_null)
    parts += [write(at, VARINT, 1) for at, is_set in enumerate(flags, 5) if is_set]
    if metric.raw is not None:
        number, raw = metric.raw
        parts.append(write(number, WIRES[number], raw))
    return b"".join(parts)


def _name(raw: bytes) -> str:
    if len(raw) > MAX_NAME_BYTES:
        msg = f"a name has {len(raw):,} bytes, more than {MAX_NAME_BYTES:,}"
        raise WireInvalid(msg)
    return text(raw)


def _numbered(number: int, raw: int | bytes) -> Field:
    return number, raw


def _values(first: int, last: int, shift: int) -> dict[int, Rule]:
    return {
        number - shift: Rule("raw", WIRES[number], partial(_numbered, number))
        for number in range(first, last + 1)
    }


def _property(raw: bytes) -> Value | None:
    said = record(raw, _PROPERTY_VALUE)
    if said.get("is_null") or "raw" not in said:
        return None
    try:
        return read(said.get("datatype", 0), said["raw"])
    except ValueError:  # a property that cannot be read is as good as none
        return None


def _properties(raw: bytes) -> dict[str, Value]:
    said = record(raw, _PROPERTY_SET)
    pairs = zip(said.get("keys", ()), said.get("values", ()), strict=False)
    return {key: value for key, value in pairs if value is not None}


def _metric(raw: bytes) -> Metric:
    return Metric(**record(raw, _METRIC))


_PROPERTY_VALUE: Final = {
    1: Rule("datatype", VARINT, int),
    2: Rule("is_null", VARINT, bool),
    **_values(10, 15, _PROPERTY_SHIFT),
}
_PROPERTY_SET: Final = {
    1: Rule("keys", LENGTH, _name, MAX_PROPERTIES),
    2: Rule("values", LENGTH, _property, MAX_PROPERTIES),
}
_METRIC: Final = {
    1: Rule("name", LENGTH, _name),
    2: Rule("alias", VARINT, int),
    3: Rule("timestamp_ms", VARINT, int),
    4: Rule("datatype", VARINT, int),
    5: Rule("is_historical", VARINT, bool),
    6: Rule("is_transient", VARINT, bool),
    7: Rule("is_null", VARINT, bool),
    9: Rule("properties", LENGTH, _properties),
    **_values(10, 19, 0),
}
_PAYLOAD: Final = {
    1: Rule("timestamp_ms", VARINT, int),
    2: Rule("metrics", LENGTH, _metric, MAX_METRICS),
    3: Rule("seq", VARINT, int),
    4: Rule("uuid", LENGTH, text),
    5: Rule("body", LENGTH, bytes),
}
