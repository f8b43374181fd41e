"""What every log does; a test module of an implementation subclasses `LogContract`.

It gives a fixture `rig` of a `LogRig`: the log under test, a second handle on the same log as
another process would have it, and how to lose everything.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from central.ingress.intake import resolve
from central.messaging import (
    DeadRecord,
    EventRecord,
    Log,
    LogRecord,
    OffsetOutOfRange,
    ReadingRecord,
    Record,
    RecordCodec,
    TopicUnknown,
    create_topics,
    topic,
)
from shared.batch import MAX_DECOMPRESSED_BYTES, decode, decode_events
from shared.columns import Columns
from shared.link import MAX_BODY_BYTES, Batch, unpack

TOPIC = "spine.demo.readings"
LIMIT = 1_000_000
DATA = Path(__file__).parents[1] / "data"
GATEWAY, EPOCH, NOW = 5, -(2**63), 1_700_000_000_000_000
BODIES = {path.stem: path.read_bytes() for path in sorted((DATA / "batch").glob("*.batch"))}


@dataclass(frozen=True)
class LogRig:
    """A log under test with the topics of the project demo."""

    log: Log
    other: Log
    wipe: Callable[[], Awaitable[None]]


async def read_all(log: Log, name: str = TOPIC, offset: int | None = None) -> list[Record]:
    """Read until nothing is left."""
    found: list[Record] = []
    while records := await log.read(name, 0, offset, LIMIT, 0):
        found += records
        offset = records[-1].offset + 1
    return found


async def through(log: Log, record: LogRecord) -> LogRecord:
    """Take a record through the log as ingress writes it and the writer reads it."""
    codec = RecordCodec()
    await log.append(TOPIC, b"%d" % GATEWAY, codec.encode(record))
    return codec.decode((await read_all(log))[-1].value)


def rows(columns: Columns) -> list[object]:
    """Give columns to the bit: NaN and zeros with a sign are told apart."""
    values = columns.value.view(np.int64).tolist()
    kept = columns.series.tolist(), columns.observed_at.tolist(), values, columns.quality.tolist()
    return [*kept, dict(columns.texts)]


class LogContract:
    """The contract of `central.messaging.log.Log`."""

    async def test_records_come_back_as_they_were_in_order(self, rig: LogRig) -> None:
        positions = [await rig.log.append(TOPIC, b"gw", bytes([at])) for at in range(10)]

        records = await read_all(rig.log)

        assert [record.value for record in records] == [bytes([at]) for at in range(10)]
        assert [record.offset for record in records] == [place.offset for place in positions]
        assert {(record.topic, record.key, record.partition) for record in records} == {
            (TOPIC, b"gw", 0)
        }

    async def test_an_append_tells_the_life_of_the_topic(self, rig: LogRig) -> None:
        position = await rig.log.append(TOPIC, b"gw", b"1")

        assert position.log_id == await rig.log.log_id(TOPIC) == await rig.other.log_id(TOPIC)

    async def test_reading_goes_on_where_it_ended(self, rig: LogRig) -> None:
        first = await rig.log.append(TOPIC, b"gw", b"1")
        await rig.log.append(TOPIC, b"gw", b"2")

        records = await rig.other.read(TOPIC, 0, first.offset + 1, LIMIT, 0)

        assert [record.value for record in records] == [b"2"]

    async def test_at_the_end_there_is_nothing_and_no_error(self, rig: LogRig) -> None:
        end = (await rig.log.append(TOPIC, b"gw", b"1")).offset + 1

        assert list(await rig.log.read(TOPIC, 0, end, LIMIT, 0)) == []

    async def test_an_offset_that_cannot_be_is_refused(self, rig: LogRig) -> None:
        end = (await rig.log.append(TOPIC, b"gw", b"1")).offset + 1

        with pytest.raises(OffsetOutOfRange):
            await rig.log.read(TOPIC, 0, end + 1, LIMIT, 0)

    async def test_trimmed_records_are_gone_and_their_offsets_refused(self, rig: LogRig) -> None:
        places = [await rig.log.append(TOPIC, b"gw", bytes([at])) for at in range(6)]

        await rig.log.trim(TOPIC, 0, places[4].offset)

        assert [record.value for record in await read_all(rig.log)] == [b"\x04", b"\x05"]
        with pytest.raises(OffsetOutOfRange):
            await rig.log.read(TOPIC, 0, places[3].offset, LIMIT, 0)

    async def test_the_end_is_where_the_next_record_goes(self, rig: LogRig) -> None:
        for _ in range(2):
            end = await rig.log.end(TOPIC, 0)
            assert await rig.other.append(TOPIC, b"gw", b"1") == end
        end = await rig.log.end(TOPIC, 0)
        await rig.log.trim(TOPIC, 0, end.offset)
        assert await rig.log.end(TOPIC, 0) == end
        with pytest.raises(TopicUnknown):
            await rig.log.end(topic("nobody", "readings"), 0)

    async def test_a_limit_in_bytes_gives_at_least_one_record(self, rig: LogRig) -> None:
        for _ in range(5):
            await rig.log.append(TOPIC, b"gw", bytes(1_000))

        two = await rig.log.read(TOPIC, 0, None, 2_500, 0)
        one = await rig.log.read(TOPIC, 0, None, 10, 0)

        assert 1 <= len(two) <= 2
        assert len(one) == 1

    async def test_a_big_record_passes(self, rig: LogRig) -> None:
        big = bytes(range(256)) * 4 * 4_096
        await rig.log.append(TOPIC, b"gw", big)

        assert [record.value for record in await read_all(rig.other)] == [big]

    async def test_what_the_largest_body_can_become_passes(self, rig: LogRig) -> None:
        largest = random.Random(4).randbytes(MAX_BODY_BYTES) + bytes(MAX_DECOMPRESSED_BYTES)
        await rig.log.append(TOPIC, b"gw", largest)
        after = await rig.log.append(TOPIC, b"gw", b"after")

        first, second = await read_all(rig.other)

        assert first.value == largest
        assert (second.offset, second.value) == (after.offset, b"after")

    @pytest.mark.parametrize("name", BODIES)
    async def test_a_golden_body_comes_out_as_it_went_in(self, rig: LogRig, name: str) -> None:
        columns = decode(BODIES[name])

        found = await through(rig.log, ReadingRecord(GATEWAY, EPOCH, 3, NOW, columns))

        assert isinstance(found, ReadingRecord)
        assert (found.gateway_id, found.epoch, found.seq) == (GATEWAY, EPOCH, 3)
        assert found.received_at == NOW
        assert rows(found.columns) == rows(columns)

    async def test_golden_events_come_out_as_they_went_in(self, rig: LogRig) -> None:
        ids = np.asarray([11, 12, 40, 41], np.int32)
        events = decode_events((DATA / "batch" / "gap.events").read_bytes())
        record = EventRecord(GATEWAY, EPOCH, 4, NOW, len(events), [resolve(e, ids) for e in events])

        assert await through(rig.log, record) == record

    async def test_the_golden_frame_comes_out_as_a_dead_letter(self, rig: LogRig) -> None:
        frame = unpack((DATA / "link" / "batch.msgpack").read_bytes())
        assert isinstance(frame, Batch)  # its body is none that can be read
        named = (GATEWAY, frame.epoch, frame.seq, NOW, frame.count, frame.kind.value)
        record = DeadRecord(*named, "not_a_batch", "why", frame.point_set, frame.body)

        assert await through(rig.log, record) == record

    async def test_a_reader_that_waits_is_woken(self, rig: LogRig) -> None:
        for appender in (rig.log, rig.other):
            end = len(await read_all(rig.log))
            reading = asyncio.create_task(rig.log.read(TOPIC, 0, end, LIMIT, 20))
            await asyncio.sleep(0)
            await appender.append(TOPIC, b"gw", b"news")
            async with asyncio.timeout(10):
                assert [record.value for record in await reading] == [b"news"]

    async def test_a_reader_waits_no_longer_than_it_said(self, rig: LogRig) -> None:
        async with asyncio.timeout(10):
            assert list(await rig.log.read(TOPIC, 0, None, LIMIT, 0.05)) == []

    async def test_topics_do_not_mix(self, rig: LogRig) -> None:
        await rig.log.append(topic("demo", "readings"), b"gw", b"r")
        await rig.log.append(topic("demo", "events"), b"gw", b"e")

        assert [record.value for record in await read_all(rig.log, topic("demo", "events"))] == [
            b"e"
        ]

    async def test_an_unknown_topic_is_told(self, rig: LogRig) -> None:
        for call in (
            rig.log.append("spine.none.readings", b"gw", b"1"),
            rig.log.read("spine.none.readings", 0, None, LIMIT, 0),
            rig.log.log_id("spine.none.readings"),
        ):
            with pytest.raises(TopicUnknown, match=r"spine\.none\.readings"):
                await call

    async def test_making_topics_again_keeps_them(self, rig: LogRig) -> None:
        position = await rig.log.append(TOPIC, b"gw", b"1")

        await create_topics(rig.other, "demo")

        assert await rig.log.log_id(TOPIC) == position.log_id
        assert len(await read_all(rig.log)) == 1

    async def test_a_topic_made_anew_has_another_life(self, rig: LogRig) -> None:
        position = await rig.log.append(TOPIC, b"gw", b"1")
        await rig.log.delete_topic(TOPIC)
        await rig.log.delete_topic(TOPIC)

        await rig.log.create_topic(TOPIC)

        assert await rig.log.log_id(TOPIC) != position.log_id
        assert await read_all(rig.log) == []

    async def test_a_wiped_log_has_another_life(self, rig: LogRig) -> None:
        position = await rig.log.append(TOPIC, b"gw", b"1")

        await rig.wipe()

        again = await rig.other.append(TOPIC, b"gw", b"2")
        assert again.log_id != position.log_id
        assert [record.value for record in await read_all(rig.log)] == [b"2"]

    async def test_many_appenders_lose_and_reorder_nothing(self, rig: LogRig) -> None:
        async def append_all(log: Log, name: bytes) -> None:
            for at in range(40):
                await log.append(TOPIC, name, at.to_bytes(2, "big"))

        async def follow() -> list[Record]:
            found: list[Record] = []
            offset: int | None = None
            while len(found) < 160:
                for record in await rig.other.read(TOPIC, 0, offset, LIMIT, 5):
                    found.append(record)
                    offset = record.offset + 1
            return found

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            following = group.create_task(follow())
            for at in range(4):
                log = rig.log if at % 2 else rig.other
                group.create_task(append_all(log, b"gw%d" % at))

        for at in range(4):
            mine = [record.value for record in following.result() if record.key == b"gw%d" % at]
            assert mine == [number.to_bytes(2, "big") for number in range(40)]
        offsets = [record.offset for record in following.result()]
        assert offsets == sorted(set(offsets))
