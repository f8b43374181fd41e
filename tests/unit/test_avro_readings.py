"""Readings in Avro by columns: the same bytes as fastavro's, and read the same or not at all."""

import io
import math
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.messaging import avro_readings
from central.messaging.reading_batch import ReadingBatchCoding
from central.messaging.records import ReadingRecord, RecordCodec, RecordInvalid
from central.messaging.registry import FileRegistry
from shared.columns import Columns
from tests.unit.avro_kit import ARRAY, assert_read_between, assert_same, by_fastavro

CODEC = RecordCodec()
HEAD = b"\x00" + FileRegistry.load().newest("reading_batch").id.to_bytes(4, "big")
NAMES = b"\x02\x04\x06\x08"
"""Gateway 1, epoch 2, seq 3, received at 4."""

Row = tuple[int, int, float, int]
edges = (
    st.integers(0, 63)
    .map(lambda bits: 1 << bits)
    .flatmap(lambda power: st.sampled_from([power - 1, -power]))
)
doubles = st.one_of(
    st.floats(),
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", bits.to_bytes(8, "little"))[0]),
)


def any_rows(time_bits: int, most: int = 40) -> st.SearchStrategy[list[Row]]:
    limit = 1 << (time_bits - 1)
    times = st.one_of(edges, st.integers(-limit, limit - 1)).map(
        lambda at: max(-limit, min(limit - 1, at))
    )
    series = st.one_of(edges, st.integers(-(2**31), 2**31 - 1)).map(
        lambda key: max(-(2**31), min(2**31 - 1, key))
    )
    row = st.tuples(series, times, doubles, st.integers(0, 2**16 - 1))
    return st.lists(row, min_size=1, max_size=most)


def columns_of(rows: list[Row]) -> Columns:
    values = np.array([struct.pack("<d", row[2]) for row in rows], "S8").view("<f8")
    return Columns.of(
        [row[0] for row in rows], [row[1] for row in rows], values, [row[3] for row in rows]
    )


def integer(number: int) -> bytes:
    """Write an integer as the specification says, one byte after the other."""
    folded = (number << 1) ^ (number >> 63)
    found = bytearray()
    while folded > 0x7F:
        found.append(folded & 0x7F | 0x80)
        folded >>= 7
    return bytes([*found, folded])


def reading(row: Row, stretched: int = 0) -> bytes:
    """Write a reading; `stretched` adds empty groups to its point, which no writer should."""
    point = bytearray(integer(row[0]))
    for _ in range(stretched):
        point[-1] |= 0x80
        point.append(0)
    return bytes(point) + integer(row[1]) + struct.pack("<d", row[2]) + integer(row[3])


@given(any_rows(56))
def test_the_bytes_are_fastavros(rows: list[Row]) -> None:
    columns = columns_of(rows)

    assert avro_readings.encode(columns, fewest=1) == by_fastavro(columns)


@given(any_rows(56), st.binary(max_size=12), st.binary(max_size=40))
def test_what_fastavro_wrote_is_read_to_its_end_and_no_further(
    rows: list[Row], before: bytes, after: bytes
) -> None:
    assert_read_between(columns_of(rows), before, after)


@pytest.mark.parametrize("count", [32, 96, 999, 1000, 1001, 3000])
def test_batches_of_any_size_come_back(count: int) -> None:
    rng = np.random.default_rng(count)
    columns = Columns.of(
        rng.integers(-(2**31), 2**31, count).astype(np.int32),
        rng.integers(-(2**55), 2**55, count) >> rng.integers(0, 55, count),
        rng.integers(0, 2**64, count, np.uint64).view(np.float64),
        rng.integers(0, 2**16, count, np.uint16),
    )
    value = CODEC.encode(ReadingRecord(1, 2, 3, 4, columns))

    assert value == HEAD + NAMES + by_fastavro(columns) + b"\x00"
    back = CODEC.decode(value)
    assert isinstance(back, ReadingRecord)
    assert_same(back.columns, columns)


@given(any_rows(64))
def test_times_too_long_for_a_word_are_left_to_fastavro(rows: list[Row]) -> None:
    columns = columns_of(rows)
    fits = all(-(2**55) <= row[1] < 2**55 for row in rows)

    assert (avro_readings.encode(columns, fewest=1) is not None) == fits
    found = avro_readings.decode(by_fastavro(columns), 0, fewest=1)
    assert (found is not None) == fits
    record = CODEC.decode(CODEC.encode(ReadingRecord(1, 2, 3, 4, columns)))
    assert isinstance(record, ReadingRecord)
    assert_same(record.columns, columns)


def as_one_block(rows: list[Row]) -> bytes:
    return integer(len(rows)) + b"".join(map(reading, rows)) + b"\x00"


def as_blocks_with_lengths(rows: list[Row]) -> bytes:
    found = b""
    for at in range(0, len(rows), 50):
        block = b"".join(map(reading, rows[at : at + 50]))
        found += integer(-len(rows[at : at + 50])) + integer(len(block)) + block
    return found + b"\x00"


def as_two_blocks(rows: list[Row]) -> bytes:
    middle = len(rows) - len(rows) // 4
    return as_one_block(rows[:middle])[:-1] + as_one_block(rows[middle:])


def stretched(rows: list[Row]) -> bytes:
    """Make every integer of a point longer than need be, every third one much longer."""
    parts = [reading(row, 6 if at % 3 == 0 else 1) for at, row in enumerate(rows)]
    return integer(len(rows)) + b"".join(parts) + b"\x00"


@pytest.mark.parametrize("form", [as_one_block, as_blocks_with_lengths, as_two_blocks, stretched])
@given(some=any_rows(56, most=12), count=st.integers(110, 130))
def test_every_form_that_avro_allows_is_read(
    form: Callable[[list[Row]], bytes], some: list[Row], count: int
) -> None:
    rows = (some * count)[:count]

    record = CODEC.decode(HEAD + NAMES + form(rows) + b"\x00")

    assert isinstance(record, ReadingRecord)
    assert_same(record.columns, columns_of(rows))


@given(st.data())
def test_damaged_arrays_are_read_as_fastavro_reads_them_or_not_at_all(data: st.DataObject) -> None:
    source = bytearray(by_fastavro(columns_of(data.draw(any_rows(56, most=8)))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(source) - 1))
        source[at] = data.draw(st.integers(0, 255))
    cut = bytes(source[: data.draw(st.integers(0, len(source)))])

    found = avro_readings.decode(cut, 0, fewest=1)

    if found is not None:
        stream = io.BytesIO(cut)
        rows: Any = fastavro.schemaless_reader(stream, ARRAY, None)
        assert_same(found[0], columns_of([tuple(row.values()) for row in rows]))
        assert stream.tell() == found[1]


@pytest.mark.parametrize("count", [2**20, 2**31, 2**40, 2**62, -(2**40), -(2**63)])
@pytest.mark.parametrize("rest", [b"", bytes(3_000), b"\x80" * 3_000])
def test_a_count_that_lies_costs_nothing(count: int, rest: bytes) -> None:
    value = HEAD + NAMES + integer(count) + rest
    tracemalloc.start()
    try:
        with pytest.raises(RecordInvalid):
            CODEC.decode(value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("row", "place"),
    [((2**31, 5, 1.0, 0), "point"), ((1, 5, 1.0, 2**16), "quality"), ((1, 5, 1.0, -1), "quality")],
)
def test_numbers_that_fit_no_column_are_invalid(row: Row, place: str) -> None:
    rows = [(1, 5, 1.0, 0)] * 150 + [row]

    with pytest.raises(RecordInvalid):
        CODEC.decode(HEAD + NAMES + as_one_block(rows) + b"\x00")


def test_texts_go_with_their_readings() -> None:
    count = 200
    columns = Columns.of(
        range(count), range(count), [math.nan] * count, [0] * count, {199: "öffnen"}
    )

    record = CODEC.decode(CODEC.encode(ReadingRecord(1, 2, 3, 4, columns)))

    assert isinstance(record, ReadingRecord)
    assert record.columns.texts == {199: "öffnen"}


def batch_of(*after: dict[str, Any], items: Any = None) -> Any:
    array = {"name": "readings", "type": {"type": "array", "items": items or ARRAY["items"]}}
    fields = [{"name": "trace", "type": "string"}, array, *after]
    return {"type": "record", "name": "Batch", "fields": fields}


def test_other_fields_around_the_readings_are_written_and_read() -> None:
    coding = batch_of({"name": "note", "type": ["null", "string"]})
    fields = {"trace": "a", "note": "b"}
    columns = Columns.of(range(120), range(120), range(120), [0] * 120)
    found = ReadingBatchCoding.of(coding)
    assert found is not None

    value = found.encode(fields, columns)

    assert value is not None
    back = found.decode(b"head" + value, 4)
    assert back is not None
    assert_same(back[0].pop("readings"), columns)
    assert back == (fields, 4 + len(value))


@pytest.mark.parametrize(
    "coding",
    [
        batch_of(items="long"),
        batch_of(items={**ARRAY["items"], "fields": ARRAY["items"]["fields"][:3]}),
        batch_of({"name": "first", "type": ARRAY["items"]["name"]}),
        {"type": "record", "name": "Batch", "fields": []},
    ],
)
def test_other_schemas_are_left_to_fastavro(coding: Any) -> None:
    assert ReadingBatchCoding.of(coding) is None
