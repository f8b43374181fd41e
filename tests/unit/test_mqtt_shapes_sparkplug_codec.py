"""The payload of Sparkplug B: types, nulls, arrays, limits, and a second opinion."""

import gzip
import math
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.mqtt.shapes.sparkplug_b.arrays import MAX_ELEMENTS, unpack_booleans
from protocols.mqtt.shapes.sparkplug_b.datatypes import DataType, ValueUnfit, read, write
from protocols.mqtt.shapes.sparkplug_b.payload import (
    COMPRESSED,
    MAX_BYTES,
    Metric,
    Payload,
    decode,
    encode,
)
from protocols.mqtt.shapes.sparkplug_b.protobuf import LENGTH, WireInvalid
from protocols.mqtt.shapes.sparkplug_b.protobuf import write as wire_write
from shared.quality import Reason
from tests.servers import sparkplug_payload

WHOLE: Final = {
    DataType.INT8: (-(2**7), 2**7 - 1),
    DataType.INT16: (-(2**15), 2**15 - 1),
    DataType.INT32: (-(2**31), 2**31 - 1),
    DataType.INT64: (-(2**63), 2**63 - 1),
    DataType.UINT8: (0, 2**8 - 1),
    DataType.UINT16: (0, 2**16 - 1),
    DataType.UINT32: (0, 2**32 - 1),
    DataType.UINT64: (0, 2**64 - 1),
    DataType.DATETIME: (0, 2**64 - 1),
}
ARRAYS: Final = {
    DataType.INT8_ARRAY: DataType.INT8,
    DataType.INT16_ARRAY: DataType.INT16,
    DataType.INT32_ARRAY: DataType.INT32,
    DataType.INT64_ARRAY: DataType.INT64,
    DataType.UINT8_ARRAY: DataType.UINT8,
    DataType.UINT16_ARRAY: DataType.UINT16,
    DataType.UINT32_ARRAY: DataType.UINT32,
    DataType.UINT64_ARRAY: DataType.UINT64,
    DataType.FLOAT_ARRAY: DataType.FLOAT,
    DataType.DOUBLE_ARRAY: DataType.DOUBLE,
    DataType.BOOLEAN_ARRAY: DataType.BOOLEAN,
    DataType.STRING_ARRAY: DataType.STRING,
    DataType.DATETIME_ARRAY: DataType.DATETIME,
}
NOT_WRITTEN: Final = {
    DataType.DATASET,
    DataType.TEMPLATE,
    DataType.PROPERTY_SET,
    DataType.PROPERTY_SET_LIST,
}
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LONG: Final = {"$long": "1700000000123"}


def values(datatype: DataType) -> st.SearchStrategy[Any]:
    if datatype in WHOLE:
        return st.integers(*WHOLE[datatype])
    if datatype in ARRAYS:
        return st.lists(values(ARRAYS[datatype]), max_size=20).map(tuple)
    plain: dict[DataType, st.SearchStrategy[Any]] = {
        DataType.FLOAT: st.floats(width=32, allow_nan=False),
        DataType.DOUBLE: st.floats(allow_nan=False),
        DataType.BOOLEAN: st.booleans(),
        DataType.BYTES: st.binary(),
        DataType.FILE: st.binary(),
    }
    return plain.get(datatype, TEXTS)


metrics = st.sampled_from(sorted(set(DataType) - NOT_WRITTEN)).flatmap(
    lambda datatype: st.builds(
        Metric.of,
        st.none() | TEXTS.filter(lambda name: len(name) < 200),
        st.just(datatype),
        st.none() | values(datatype),
        alias=st.none() | st.integers(0, 2**64 - 1),
        timestamp_ms=st.none() | st.integers(0, 2**64 - 1),
        is_historical=st.booleans(),
        is_transient=st.booleans(),
    )
)


@given(
    st.builds(
        Payload,
        st.none() | st.integers(0, 2**64 - 1),
        st.none() | st.integers(0, 255),
        st.lists(metrics, min_size=1, max_size=5),
    )
)
def test_what_is_written_is_read_as_it_was(payload: Payload) -> None:
    assert decode(encode(payload)) == payload


@given(st.data())
def test_every_value_of_every_type_is_read_as_it_was_written(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(sorted(set(DataType) - NOT_WRITTEN)))
    value = data.draw(values(datatype))
    assert read(datatype, write(datatype, value)) == value


@given(st.binary(max_size=300))
def test_bytes_are_a_payload_or_refused(data: bytes) -> None:
    try:
        payload = decode(data)
    except WireInvalid:
        return
    for metric in payload.metrics:
        with suppress(ValueUnfit):
            metric.value(metric.datatype or 0)


@pytest.mark.parametrize(
    ("datatype", "raw", "value"),
    [
        (DataType.INT8, 0xFE, -2),
        (DataType.INT8, 0xFFFF_FFFE, -2),
        (DataType.INT8, 0xFFFF_FFFF_FFFF_FFFE, -2),
        (DataType.INT8, 0x7F, 127),
        (DataType.INT16, 0x8000, -32_768),
        (DataType.INT32, 0xFFFF_FFFF, -1),
        (DataType.INT32, 0xFFFF_FFFF_FFFF_FFFF, -1),
        (DataType.INT64, 0xFFFF_FFFF_FFFF_FFFF, -1),
        (DataType.UINT32, 0xFFFF_FFFF, 4_294_967_295),
        (DataType.UINT64, 0xFFFF_FFFF_FFFF_FFFF, 2**64 - 1),
    ],
)
@pytest.mark.parametrize("field", [10, 11])
def test_negative_numbers_are_read_in_every_width_that_is_seen(
    datatype: DataType, raw: int, value: int, field: int
) -> None:
    assert read(datatype, (field, raw)) == value


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        (DataType.INT8, (10, 0x180)),
        (DataType.UINT8, (10, 256)),
        (DataType.UINT16, (10, 0xFFFF_FFFF)),
        (DataType.INT32, (11, 2**40)),
        (DataType.BOOLEAN, (14, 2)),
        (DataType.FLOAT, (10, 5)),
        (DataType.INT32, (15, b"5")),
        (DataType.STRING, (15, b"\xff")),
        (DataType.INT16_ARRAY, (16, b"\0\0\0")),
        (DataType.STRING_ARRAY, (16, b"open")),
        (DataType.BOOLEAN_ARRAY, (16, b"\x09\0\0\0\0")),
        (DataType.BOOLEAN_ARRAY, (16, b"\xff\xff\xff\xff\0")),
        (DataType.UINT8_ARRAY, (16, bytes(MAX_ELEMENTS + 1))),
        (0, (10, 5)),
        (99, (16, b"")),
    ],
)
def test_what_does_not_fit_its_type_is_a_bad_payload(
    datatype: int, field: tuple[int, int | bytes]
) -> None:
    with pytest.raises(ValueUnfit) as caught:
        read(datatype, field)
    assert caught.value.reason is Reason.BAD_PAYLOAD


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (DataType.INT8, 128),
        (DataType.UINT32, -1),
        (DataType.INT16, 1.5),
        (DataType.UINT64, math.inf),
        (DataType.STRING, 5),
        (DataType.DOUBLE, "warm"),
        (DataType.INT32, "warm"),
        (DataType.STRING_ARRAY, ["a\0b"]),
        (DataType.DATASET, 1),
    ],
)
def test_what_does_not_fit_is_not_written(datatype: DataType, value: object) -> None:
    with pytest.raises(ValueUnfit):
        write(datatype, value)


def test_booleans_lie_as_the_specification_shows_them() -> None:
    packed = bytes([0x0C, 0, 0, 0, 0x34, 0xD0])
    expected = (False, False, True, True, False, True, False, False, True, True, False, True)
    assert unpack_booleans(packed) == expected
    assert write(DataType.BOOLEAN_ARRAY, expected) == (16, packed)


@pytest.mark.parametrize("datatype", [DataType.DATASET, DataType.TEMPLATE])
def test_data_sets_and_templates_are_passed_over(datatype: DataType) -> None:
    with pytest.raises(ValueUnfit) as caught:
        read(datatype, (17, b"\x08\x01"))
    assert caught.value.reason is Reason.NOT_IMPLEMENTED


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # cut off after the key
        b"\x12\x05\x0a",  # cut off in a metric
        b"\x0a\x00",  # a timestamp that is a text
        b"\x00\x01",  # field 0
        b"\x0b\x0c",  # a group
        b"\x08" + b"\xff" * 9 + b"\x7f",  # more than 64 bits
        b"\x08" + b"\x80" * 11 + b"\x01",  # more than ten bytes
        b"\x12\x03\x0a\x01\xff",  # a name that is not UTF-8
        b"\x12\x00" * 20_001,  # too many metrics
        b"\x12\xed\x07\x0a\xea\x07" + b"x" * 1_002,  # too long a name
    ],
)
def test_what_is_no_payload_is_refused(data: bytes) -> None:
    with pytest.raises(WireInvalid):
        decode(data)


def compressed(body: bytes, algorithm: str = "DEFLATE") -> bytes:
    outer = Payload(metrics=[Metric.of("algorithm", DataType.STRING, algorithm)])
    return encode(outer) + wire_write(4, LENGTH, COMPRESSED.encode()) + wire_write(5, LENGTH, body)


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress])
def test_a_compressed_payload_is_read(compress: Callable[[bytes], bytes]) -> None:
    payload = Payload(5, 3, [Metric.of("a", DataType.DOUBLE, 1.5)])

    assert decode(compressed(compress(encode(payload)))) == payload


@pytest.mark.parametrize(
    "body", [b"x", zlib.compress(b"\x12\x05\x0a"), zlib.compress(bytes(MAX_BYTES + 1))]
)
def test_a_compressed_payload_that_is_none_or_too_large_is_refused(body: bytes) -> None:
    with pytest.raises(WireInvalid):
        decode(compressed(body))


def test_fields_that_nobody_knows_are_passed_over() -> None:
    data = b"\x9a\x06\x02ab" + encode(Payload(seq=7)) + b"\xa5\x06\0\0\0\0"
    assert decode(data) == Payload(seq=7)


def theirs(name: str, kind: str, value: object, **more: object) -> dict[str, object]:
    return {"name": name, "type": kind, "value": value, **more}


THEIR_METRICS: Final = [
    theirs("i8", "Int8", -5),
    theirs("i16", "Int16", -500),
    theirs("i32", "Int32", -2_000_000_000),
    theirs("i64", "Int64", {"$long": "-9007199254740993"}),
    theirs("u8", "UInt8", 250),
    theirs("u16", "UInt16", 65_000),
    theirs("u32", "UInt32", {"$long": "4000000000"}),
    theirs("u64", "UInt64", {"$long": "18446744073709551615"}),
    theirs("f", "Float", 0.5),
    theirs("d", "Double", 20.123456789),
    theirs("b", "Boolean", True),
    theirs("s", "String", "Grüße"),
    theirs("at", "DateTime", LONG, timestamp=LONG, alias={"$long": "7"}),
    theirs("t", "Text", ""),
    theirs("id", "UUID", "123e4567-e89b-12d3-a456-426614174000"),
    theirs("raw", "Bytes", {"$bytes": "00ff"}),
    theirs("null", "Int16", None),
    theirs("old", "Double", 1.0, isHistorical=True, isTransient=True),
    theirs(
        "judged",
        "Double",
        1.0,
        properties={
            "Quality": {"type": "Int32", "value": 500},
            "engUnit": {"type": "String", "value": "°C"},
            "nested": {"type": "PropertySet", "value": {"x": {"type": "Int32", "value": 1}}},
        },
    ),
    theirs(
        "table",
        "DataSet",
        {"numOfColumns": 1, "columns": ["a"], "types": ["Double"], "rows": [[1.5]]},
    ),
    theirs("last", "Int32", 3, metadata={"description": "passed over"}),
]


@pytest.mark.integration
def test_a_payload_of_tahu_is_read() -> None:
    data = sparkplug_payload.encode([{"timestamp": LONG, "seq": 3, "metrics": THEIR_METRICS}])[0]

    payload = decode(data)

    assert (payload.timestamp_ms, payload.seq) == (1_700_000_000_123, 3)
    by_name = {metric.name: metric for metric in payload.metrics}
    assert list(by_name) == [metric["name"] for metric in THEIR_METRICS]
    read_values = {
        name: metric.value(metric.datatype or 0)
        for name, metric in by_name.items()
        if name != "table"
    }
    assert read_values == {
        "i8": -5,
        "i16": -500,
        "i32": -2_000_000_000,
        "i64": -9_007_199_254_740_993,
        "u8": 250,
        "u16": 65_000,
        "u32": 4_000_000_000,
        "u64": 2**64 - 1,
        "f": 0.5,
        "d": 20.123456789,
        "b": True,
        "s": "Grüße",
        "at": 1_700_000_000_123,
        "t": "",
        "id": "123e4567-e89b-12d3-a456-426614174000",
        "raw": b"\0\xff",
        "null": None,
        "old": 1.0,
        "judged": 1.0,
        "last": 3,
    }
    assert (by_name["at"].alias, by_name["at"].timestamp_ms) == (7, 1_700_000_000_123)
    assert by_name["null"].is_null
    assert by_name["old"].is_historical
    assert by_name["old"].is_transient
    assert by_name["judged"].properties == {"Quality": 500, "engUnit": "°C"}
    assert by_name["table"].datatype == DataType.DATASET


@pytest.mark.integration
def test_tahu_reads_what_is_written() -> None:
    written = Payload(
        1_700_000_000_123,
        9,
        [
            Metric.of("i8", DataType.INT8, -5, alias=4),
            Metric.of("i32", DataType.INT32, -70_000),
            Metric.of("i64", DataType.INT64, -(2**60)),
            Metric.of("u32", DataType.UINT32, 70_000),
            Metric.of("f", DataType.FLOAT, -0.25),
            Metric.of("d", DataType.DOUBLE, 1e300),
            Metric.of("b", DataType.BOOLEAN, False),
            Metric.of("s", DataType.STRING, "Grüße", is_historical=True),
            Metric.of("n", DataType.DOUBLE, None),
        ],
    )

    said = sparkplug_payload.decode([encode(written)])[0]

    assert said["timestamp"] == LONG
    assert said["seq"] == {"$long": "9"}
    assert [(one["name"], one["type"], one["value"]) for one in said["metrics"]] == [
        ("i8", "Int8", -5),
        ("i32", "Int32", -70_000),
        ("i64", "Int64", {"$long": str(-(2**60))}),
        ("u32", "UInt32", 70_000),
        ("f", "Float", -0.25),
        ("d", "Double", 1e300),
        ("b", "Boolean", False),
        ("s", "String", "Grüße"),
        ("n", "Double", None),
    ]
    assert said["metrics"][0]["alias"] == {"$long": "4"}
    assert said["metrics"][7]["isHistorical"] is True
