"""Batches of records in Kafka's format: cut where the reader says, never read when damaged."""

import random

import pytest

from central.messaging import LogAway, RecordTooLarge
from central.messaging.kafka_records import LARGE_BYTES, MAX_MESSAGE_BYTES, behind, pack, unpack
from central.messaging.log import Record

TOPIC = "spine.demo.readings"


def stored(base: int, *values: bytes) -> bytes:
    """Give a batch as a broker keeps it: with the offset of its first record."""
    packed = pack([(b"gw%d" % at, value) for at, value in enumerate(values)])
    return base.to_bytes(8, "big") + packed[8:]


def read(packed: bytes, offset: int = 0, limit_bytes: int = 1_000) -> list[tuple[int, bytes]]:
    return [
        (record.offset, record.value) for record in unpack(TOPIC, 0, packed, offset, limit_bytes)
    ]


def test_records_come_back_with_key_and_place() -> None:
    assert unpack(TOPIC, 3, stored(7, b"a", b""), 7, 100) == [
        Record(TOPIC, 3, 7, b"gw0", b"a"),
        Record(TOPIC, 3, 8, b"gw1", b""),
    ]


def test_records_before_the_offset_are_left_out_and_not_counted() -> None:
    packed = stored(10, b"x" * 900, b"b", b"c") + stored(13, b"d")
    assert read(packed, 11, 2) == [(11, b"b"), (12, b"c")]
    assert read(packed, 12) == [(12, b"c"), (13, b"d")]


def test_values_stop_before_the_limit_but_one_may_exceed_it() -> None:
    packed = stored(0, b"aa", b"bb", b"cc")
    assert [value for _, value in read(packed, 0, 4)] == [b"aa", b"bb"]
    assert [value for _, value in read(packed, 0, 5)] == [b"aa", b"bb"]
    assert [value for _, value in read(packed, 0, 1)] == [b"aa"]
    assert [value for _, value in read(packed, 1, 1)] == [b"bb"]


def test_a_batch_that_is_cut_off_is_left_out() -> None:
    whole, more = stored(0, b"a"), stored(1, b"b")
    for size in range(len(more)):
        assert read(whole + more[:size]) == [(0, b"a")]
    assert read(b"") == []


def test_what_follows_whole_batches_is_told() -> None:
    whole = stored(7, b"a", b"b") + stored(9, b"c")
    assert behind(whole) == 10
    assert behind(whole + stored(10, b"d")[:-1]) == 10
    assert behind(b"") is None


def test_a_damaged_batch_is_not_read() -> None:
    packed = bytearray(stored(4, b"valuable"))
    packed[-3] ^= 1
    with pytest.raises(LogAway, match="offset 4 is damaged"):
        read(bytes(packed))


def test_a_large_record_is_compressed() -> None:
    value = b"0123456789abcdef" * (LARGE_BYTES // 16)
    packed = pack([(b"gw", value)])
    assert len(packed) < LARGE_BYTES // 100
    assert [record.value for record in unpack(TOPIC, 0, packed, 0, 10)] == [value]
    assert len(pack([(b"gw", value[:-1])])) > LARGE_BYTES


def test_a_record_the_topic_never_takes_is_refused() -> None:
    value = random.Random(3).randbytes(MAX_MESSAGE_BYTES)
    with pytest.raises(RecordTooLarge, match=str(len(value))):
        pack([(b"gw", value)])
