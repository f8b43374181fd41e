"""Records of the log: Avro in the Confluent wire format, bit-exact, and safe to read."""

import io
import math
from typing import Any

import fastavro
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.messaging.records import (
    DeadRecord,
    EventRecord,
    ReadingRecord,
    RecordCodec,
    RecordInvalid,
    resolve_series,
)
from central.messaging.registry import FileRegistry
from shared.columns import Columns

REGISTRY = FileRegistry.load()
CODEC = RecordCodec(REGISTRY)

rows = st.lists(
    st.tuples(
        st.integers(-(2**31), 2**31 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.integers(0, 2**16 - 1),
    ),
    max_size=30,
)


def round_trip(record: ReadingRecord) -> ReadingRecord:
    back = CODEC.decode(CODEC.encode(record))
    assert isinstance(back, ReadingRecord)
    return back


@given(rows, st.integers(1, 2**63 - 1), st.integers(0, 2**62))
def test_readings_come_back_bit_for_bit(
    given_rows: list[tuple[int, int, float, int]], epoch: int, seq: int
) -> None:
    columns = Columns.of(
        [row[0] for row in given_rows],
        [row[1] for row in given_rows],
        [row[2] for row in given_rows],
        [row[3] for row in given_rows],
    )

    back = round_trip(ReadingRecord(3, epoch, seq, 99, columns))

    assert (back.gateway_id, back.epoch, back.seq, back.received_at) == (3, epoch, seq, 99)
    assert back.columns.series.tolist() == columns.series.tolist()
    assert back.columns.observed_at.tolist() == columns.observed_at.tolist()
    assert back.columns.quality.tolist() == columns.quality.tolist()
    same = back.columns.value.view(np.uint64) == columns.value.view(np.uint64)
    assert (same | np.isnan(columns.value)).all()
    assert (np.isnan(back.columns.value) == np.isnan(columns.value)).all()


@given(st.dictionaries(st.integers(0, 4), st.text()))
def test_texts_come_back_with_their_reading(texts: dict[int, str]) -> None:
    columns = Columns.of(range(5), range(5), [math.nan] * 5, [0] * 5, texts)

    assert round_trip(ReadingRecord(1, 1, 0, 0, columns)).columns.texts == texts


def test_events_come_back_with_bytes_and_unknown_keys() -> None:
    events: list[dict[str, Any]] = [
        {"event": "gap", "id": bytes(16), "count": None, "points": [[1, 2]]},
        {"event": "later", "deep": {"list": [1, 2.5, "x"]}},
        {"no event": True},
    ]
    record = EventRecord(1, 2, 3, 4, 3, events)

    assert CODEC.decode(CODEC.encode(record)) == record


def test_dead_batches_come_back_as_they_were() -> None:
    record = DeadRecord(1, 2, 3, 4, 5, "readings", "truncated", "why", b"h" * 32, b"\x00body")

    assert CODEC.decode(CODEC.encode(record)) == record


def test_the_wire_format_is_confluents() -> None:
    value = CODEC.encode(ReadingRecord(1, 2, 3, 4, Columns.empty()))

    assert value[0] == 0
    assert int.from_bytes(value[1:5], "big") == REGISTRY.newest("reading_batch").id


@given(st.binary(max_size=200))
def test_any_bytes_give_a_record_or_are_invalid(noise: bytes) -> None:
    for name in ("reading_batch", "event_batch", "dead_batch"):
        head = b"\x00" + REGISTRY.newest(name).id.to_bytes(4, "big")
        for value in (noise, head + noise):
            try:
                CODEC.decode(value)
            except RecordInvalid:
                continue


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_damage_never_gives_another_error(at: int, byte: int) -> None:
    columns = Columns.of([1, 2], [5, 6], [1.0, math.nan], [0, 3], {1: "text"})
    value = bytearray(CODEC.encode(ReadingRecord(1, 2, 3, 4, columns)))
    value[at % len(value)] = byte
    try:
        CODEC.decode(bytes(value))
    except RecordInvalid:
        return


@pytest.mark.parametrize("cut", [0, 3, 5, 12, -1])
def test_cut_records_are_invalid(cut: int) -> None:
    columns = Columns.of([1, 2], [5, 6], [1.0, 2.0], [0, 3])
    value = CODEC.encode(ReadingRecord(1, 2, 3, 4, columns))

    with pytest.raises(RecordInvalid):
        CODEC.decode(value[:cut])


def test_a_text_without_its_reading_is_invalid() -> None:
    value = CODEC.encode(
        ReadingRecord(1, 2, 3, 4, Columns.of([1], [1], [1.0], [0], {1: "nobody's"}))
    )

    with pytest.raises(RecordInvalid, match="texts for rows"):
        CODEC.decode(value)


@pytest.mark.parametrize("event", [[1], 5, None, "gap"])
def test_an_event_that_is_no_map_is_invalid(event: Any) -> None:
    schema = REGISTRY.newest("event_batch")
    out = io.BytesIO()
    body = {"event": "gap", "body": msgpack.packb(event)}
    named = {"gateway": 1, "epoch": 2, "seq": 3, "received_at": 4, "count": 1}
    fastavro.schemaless_writer(out, schema.coding, {**named, "events": [body]})

    with pytest.raises(RecordInvalid, match="an event is no map"):
        CODEC.decode(b"\x00" + schema.id.to_bytes(4, "big") + out.getvalue())


@pytest.mark.parametrize("at", [-(2**63), 2**63 - 1])
def test_a_time_of_receipt_that_no_calendar_has_is_invalid(at: int) -> None:
    value = CODEC.encode(ReadingRecord(1, 2, 3, at, Columns.empty()))

    with pytest.raises(RecordInvalid, match="received_at"):
        CODEC.decode(value)


def test_bytes_after_a_record_are_invalid() -> None:
    value = CODEC.encode(ReadingRecord(1, 2, 3, 4, Columns.empty()))

    with pytest.raises(RecordInvalid, match="1 bytes after"):
        CODEC.decode(value + b"x")


def test_series_become_ranges_of_point_ids() -> None:
    ids = np.array([10, 11, 12, 40, 9, 41], np.int32)

    assert resolve_series([[0, 2]], ids) == [[10, 12]]
    assert resolve_series([[3, 5], [0, 0], [0, 1]], ids) == [[9, 11], [40, 41]]
    assert resolve_series([], ids) == []
    for wrong in ([0, 6], [-1, 2], [3, 2]):
        with pytest.raises(IndexError):
            resolve_series([wrong], ids)
