"""The writer against a real database: exactly once, whatever is repeated, reordered or refused."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from central.messaging import (
    DeadRecord,
    EventRecord,
    LogRecord,
    PostgresLog,
    create_topics,
    topic,
)
from central.storage import topic_writer
from central.storage.database import Connection, DatabaseRefused, project_transaction
from central.storage.positions import Fenced
from central.storage.settled import (
    Settling,
    add_settled,
    lock_settled,
    read_settled,
)
from central.storage.settling import Outcome, settle
from central.storage.writer import run_writers
from shared.quality import Flag, QualityClass, Reason, bad, quality, uncertain
from tests.integration.writer_kit import NAN, T0, Rig, Row, become, open_rig, readings
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.timescale_fixtures"]
pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(either_database: Database) -> Rig:
    return await open_rig(either_database)


def gap(voided: list[dict[str, object]], gap_id: bytes = b"g" * 16) -> dict[str, object]:
    return {
        "event": "gap",
        "id": gap_id,
        "cause": "dropped",
        "reason": "outbox_full",
        "points": [[1, 2], [5, 5]],
        "from_us": T0,
        "to_us": T0 + 10,
        "count": 4,
        "missed": None,
        "voided": voided,
    }


async def test_rows_arrive_bit_equal_and_are_counted(rig: Rig) -> None:
    rows: list[Row] = [
        (1, T0, -0.0, 0),
        (1, T0 + 1, 5e-324, quality(QualityClass.GOOD, flags=Flag.TIME_ADJUSTED)),
        (2, T0, 0.1 + 0.2, uncertain(Reason.STALE)),
        (2, T0 - 1, NAN, bad(Reason.LINK_DOWN)),
    ]
    await rig.publish_rows(rows)

    await rig.write()

    stored = await rig.stored()
    assert stored == [
        (1, T0, -0.0, 0),
        (1, T0 + 1, 5e-324, 0x0200),
        (2, T0 - 1, None, bad(Reason.LINK_DOWN)),
        (2, T0, 0.1 + 0.2, uncertain(Reason.STALE)),
    ]
    assert np.signbit(stored[0][2])
    row = await rig.settled()
    assert (row.seqs, row.delivered, row.collapsed, row.quarantined) == (((0, 0),), 4, 0, 0)


async def test_a_batch_that_comes_again_changes_nothing(rig: Rig) -> None:
    record = await rig.publish_rows([(1, T0, 1.0, 0), (1, T0 + 1, 2.0, 0)])
    await rig.publish(record)
    await rig.write()
    await rig.publish(record)
    await rig.publish(record, "backfill")

    await rig.write()
    await rig.write("backfill")

    row = await rig.settled()
    assert (row.seqs, row.delivered, row.collapsed) == (((0, 0),), 2, 0)


async def test_a_wiped_log_is_read_from_its_start(rig: Rig) -> None:
    await rig.publish_rows([(1, T0, 1.0, 0)])
    await rig.publish_rows([(1, T0 + 1, 1.0, 0)])
    await rig.write()
    await rig.log.wipe()
    await rig.publish_rows([(1, T0 + 2, 1.0, 0)])

    await rig.write()

    assert len(await rig.stored()) == 3
    assert (await rig.settled()).seqs == ((0, 2),)


async def test_an_offset_below_the_earliest_means_the_earliest(rig: Rig) -> None:
    writer = rig.writer()
    await writer.load()
    for at in range(5):
        await rig.publish_rows([(1, T0 + at, 1.0, 0)])
        if at == 0:
            await writer.step(wait_s=0)
    await rig.log.trim(topic("demo", "readings"), 0, 3)

    await writer.step(wait_s=0)

    assert (await rig.settled()).seqs == ((0, 0), (3, 4))


async def test_a_backlog_is_written_at_once_though_read_in_parts(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_writer, "READ_BYTES", 200)  # a record or two
    monkeypatch.setattr(topic_writer, "FULL_BYTES", 1)
    for at in range(10):
        await rig.publish_rows([(1, T0 + at, float(at), 0)])
    writer = rig.writer()
    await writer.load()

    assert await writer.step(wait_s=0) == 10

    assert [row[2] for row in await rig.stored()] == [float(at) for at in range(10)]
    assert await writer.step(wait_s=0) == 0


async def test_what_was_read_ahead_of_a_failure_is_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_writer, "READ_BYTES", 200)
    monkeypatch.setattr(topic_writer, "FULL_BYTES", 1)
    for at in range(10):
        await rig.publish_rows([(1, T0 + at, float(at), 0)])
    slow, fast = rig.writer(), rig.writer()
    await slow.load()
    await fast.load()
    while await fast.step(wait_s=0):
        pass

    with pytest.raises(Fenced):
        await slow.step(wait_s=0)
    await slow.load()

    await rig.publish_rows([(1, T0 + 10, 10.0, 0)])
    assert await slow.step(wait_s=0) == 1
    assert len(await rig.stored()) == 11
    assert (await rig.settled()).delivered == 11


async def test_of_two_writers_only_one_writes(rig: Rig) -> None:
    first, second = rig.writer(), rig.writer()
    await first.load()
    await second.load()
    await rig.publish_rows([(1, T0, 1.0, 0)])
    assert await first.step(wait_s=0) == 1

    with pytest.raises(Fenced):
        await second.step(wait_s=0)

    await rig.publish_rows([(1, T0 + 1, 1.0, 0)])
    with pytest.raises(Fenced):
        await second.step(wait_s=0)
    await second.load()
    assert await second.step(wait_s=0) == 1
    assert (await rig.settled()).delivered == 2


async def test_latest_is_the_newest_whatever_comes_later(rig: Rig) -> None:
    await rig.publish_rows([(1, T0 + 9, 9.0, 0), (1, T0 + 3, 3.0, 0)])
    await rig.write()
    await rig.publish_rows([(1, T0 + 5, 5.0, 0), (2, T0, 1.0, 0)])

    await rig.write()

    assert await rig.fetch("SELECT point_id, value FROM latest ORDER BY 1") == [(1, 9.0), (2, 1.0)]


async def test_marks_name_the_minutes_and_blocks_that_changed(rig: Rig) -> None:
    minute = 60_000_000
    start = T0 // minute * minute
    await rig.publish_rows(
        [(1, start, 1.0, 0), (255, start + 1, 1.0, 0), (256, start + minute, 1.0, 0)]
    )

    await rig.write()

    marks = await rig.fetch(
        "SELECT extract(epoch FROM minute)::int8 * 1000000, block FROM dirty_marks ORDER BY 1, 2"
    )
    assert marks == [(start, 0), (start + minute, 1)]


@pytest.mark.parametrize("poison", ["time", "far time"])
async def test_a_batch_that_the_database_refuses_is_found_and_quarantined(
    rig: Rig, poison: str
) -> None:
    rows: list[Row] = [(1, T0, 1.0, 0), (2, T0, NAN, 0)]
    await rig.publish_rows(rows)
    at = {"time": 2**62, "far time": 300_000_000_000_000_000}[poison]
    await rig.publish(readings([(1, at, 1.0, 0), (2, at, NAN, 0)], seq=1))
    for seq in range(2, 6):
        await rig.publish_rows([(1, T0 + seq, 1.0, 0)], seq=seq)

    await rig.write()

    row = await rig.settled()
    assert (row.seqs, row.delivered, row.quarantined) == (((0, 5),), 6, 2)
    assert len(await rig.stored()) == 6
    kept = await rig.fetch("SELECT seq, code, count, kind FROM quarantine")
    assert kept == [(1, "database_refused", 2, "readings")]


@pytest.mark.parametrize("kind", ["readings", "dead"])
async def test_a_record_that_not_even_quarantine_takes_stops_nothing(rig: Rig, kind: str) -> None:
    last = 2**63 - 1  # a range that ends here has no end in a multirange
    poison = readings([(1, T0, 1.0, 0)], seq=last)
    dead = DeadRecord(1, 7, last, T0, 12, "readings", "truncated", "", b"", b"xx")
    await rig.publish(poison if kind == "readings" else dead, kind)
    await rig.publish(readings([(1, T0 + 1, 2.0, 0)], seq=0), kind)

    await rig.write(kind)

    assert (await rig.settled()).seqs == ((0, 0),)
    letters = await rig.fetch("SELECT topic, log_offset FROM dead_letters")
    assert letters == [(f"spine.demo.{kind}", 0)]


async def test_a_log_in_a_new_life_is_trimmed_from_its_start(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_writer, "KEEP_RECORDS", 2)
    writer = rig.writer()
    await writer.load()
    for life in range(2):
        for at in range(20 - 10 * life):
            await rig.publish_rows([(1, T0 + 100 * life + at, 1.0, 0)])
            await writer.step(wait_s=0)
        if life == 0:
            await rig.log.wipe()

    first = (await rig.log.read(topic("demo", "readings"), 0, None, 1, 0))[0]
    assert 0 < first.offset <= 8


async def test_dead_batches_are_kept_and_settled(rig: Rig) -> None:
    dead = DeadRecord(1, 7, 3, T0, 12, "readings", "truncated", "ends\x00early", b"h" * 32, b"xx")
    await rig.publish(dead, "dead")
    await rig.publish(
        DeadRecord(1, 7, 4, T0, 5, "events", "bad_event", "no id", b"", b"yy"), "dead"
    )
    await rig.publish(dead, "dead")

    await rig.write("dead")

    row = await rig.settled()
    assert (row.seqs, row.quarantined, row.delivered) == (((3, 4),), 12, 0)
    kept = await rig.fetch("SELECT seq, code, count, body FROM quarantine ORDER BY seq")
    assert kept == [(3, "truncated", 12, b"xx"), (4, "bad_event", 5, b"yy")]


async def test_a_gap_voids_batches_and_tells_what_had_come_before(rig: Rig) -> None:
    await rig.publish_rows([(1, T0, 1.0, 0)], epoch=5, seq=2)
    await rig.write()
    voided: list[dict[str, object]] = [
        {"epoch": 5, "seqs": [[1, 3], [8, 8]]},
        {"epoch": 6, "seqs": [[0, 0]]},
    ]
    event = EventRecord(1, 7, 0, T0, 1, [gap(voided)])
    await rig.publish(event, "events")
    await rig.publish(EventRecord(1, 7, 1, T0, 1, [gap(voided)]), "events")

    await rig.write("events")
    await rig.publish_rows([(1, T0 + 9, 1.0, 0)], epoch=5, seq=8)
    await rig.write()

    assert (await rig.settled(5)).seqs == ((1, 3), (8, 8))
    assert (await rig.settled(6)).seqs == ((0, 0),)
    assert (await rig.settled(7)).seqs == ((0, 1),)
    assert [row[:2] for row in await rig.stored()] == [(1, T0)]
    kept = await rig.fetch(
        "SELECT cause, reason, count, points @> 2, points @> 3, overtaken::text FROM gaps"
    )
    assert kept == [("dropped", "outbox_full", 4, True, False, '[{"seqs": [[2, 2]], "epoch": 5}]')]


async def test_events_that_are_not_known_are_kept_as_they_are(rig: Rig) -> None:
    events: list[dict[str, Any]] = [
        {"event": "reboot", "why": "update"},
        {"event": "gap", "id": b"short"},
    ]
    await rig.publish(EventRecord(1, 7, 0, T0, 2, events), "events")

    await rig.write("events")

    kept = await rig.fetch("SELECT ordinal, event FROM events_other ORDER BY ordinal")
    assert kept == [(0, "reboot"), (1, "gap")]
    assert (await rig.settled()).seqs == ((0, 0),)


async def test_a_record_that_cannot_be_read_is_put_aside(rig: Rig) -> None:
    await rig.log.append(topic("demo", "readings"), b"1", b"\x00\x00\x00\x00\x09nonsense")
    await rig.publish_rows([(1, T0, 1.0, 0)])

    await rig.write()

    assert (await rig.settled()).delivered == 1
    letters = await rig.fetch("SELECT topic, log_offset FROM dead_letters")
    assert letters == [("spine.demo.readings", 0)]


async def test_versions_tell_every_change_once(rig: Rig) -> None:
    await rig.publish_rows([(1, T0, 1.0, 0)])
    await rig.write()
    before = await read_settled(rig.database.service, "demo", after_version=0)
    await rig.publish_rows([(1, T0 + 1, 1.0, 0)], epoch=8)
    await rig.write()

    after = await read_settled(rig.database.service, "demo", after_version=before[-1].version)

    assert [row.epoch for row in before] == [7]
    assert [row.epoch for row in after] == [8]
    assert await read_settled(rig.database.service, "demo", after_version=after[-1].version) == []


async def test_a_version_is_never_seen_before_a_smaller_one(rig: Rig) -> None:
    async def settle_epoch(epoch: int) -> None:
        async with project_transaction(rig.database.service, "demo") as connection:
            await lock_settled(connection, {(1, epoch): [0]})
            await add_settled(connection, {(1, epoch): Settling([(0, 0)], 1)})

    async with project_transaction(rig.database.service, "demo") as slow:
        await lock_settled(slow, {(1, 1): [0]})
        await add_settled(slow, {(1, 1): Settling([(0, 0)], 1)})
        quick = asyncio.create_task(settle_epoch(2))
        query = "SELECT true FROM pg_locks WHERE NOT granted LIMIT 1"
        async with asyncio.timeout(10):
            await become(lambda: rig.database.service.fetchval(query))
        # With a bare sequence the quick one would be visible now, and the slow one missed for ever.
        assert await read_settled(rig.database.service, "demo") == []
    await quick

    rows = await read_settled(rig.database.service, "demo")
    assert [(row.epoch, row.version) for row in rows] == [(1, 1), (2, 2)]


async def test_writers_of_all_projects_run_and_a_second_process_stands_by(rig: Rig) -> None:
    await rig.database.add_project("other")
    other = PostgresLog(rig.database.service)
    await create_topics(other, "other")
    async with asyncio.TaskGroup() as group:
        pool, codec = rig.database.service, rig.codec
        runs = [group.create_task(run_writers(pool, rig.log, codec)) for _ in range(2)]
        await rig.publish_rows([(1, T0, 1.0, 0)])
        await other.append(
            topic("other", "backfill"), b"1", codec.encode(readings([(9, T0, 2.0, 0)]))
        )
        async with asyncio.timeout(20):
            await become(lambda: read_settled(pool, "demo"))
            await become(lambda: read_settled(pool, "other"))
        for run in runs:
            run.cancel()
    assert (await rig.settled()).delivered == 1


async def test_a_fault_of_ours_quarantines_nothing_and_leaves_nothing(rig: Rig) -> None:
    writer = rig.writer()
    await writer.load()
    await rig.publish_rows([(1, T0, 1.0, 0)])
    async with rig.database.owner.transaction() as connection:
        await connection.execute("ALTER TABLE p_demo.dirty_marks RENAME TO away")

    with pytest.raises(DatabaseRefused):
        await writer.step(wait_s=0)

    assert await rig.stored() == []
    assert await rig.fetch("SELECT seq FROM quarantine") == []
    async with rig.database.owner.transaction() as connection:
        await connection.execute("ALTER TABLE p_demo.away RENAME TO dirty_marks")
    await writer.load()
    assert await writer.step(wait_s=0) == 1
    assert (await rig.settled()).delivered == 1


async def test_a_backlog_is_written_in_small_transactions(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_writer, "MAX_BACKFILLED", 25)
    sizes: dict[str, list[int]] = {"backfill": [], "readings": []}
    for kind, counted in sizes.items():
        for nth in range(6):
            rows = [(1, T0 + 1_000 * (10 * nth + at), 1.0, 0) for at in range(10)]
            await rig.publish(readings(rows, epoch=len(kind), seq=nth), kind)

        async def settling(
            connection: Connection, records: Sequence[LogRecord], counted: list[int] = counted
        ) -> Outcome:
            counted.append(len(records))
            return await settle(connection, records)

        monkeypatch.setattr(topic_writer, "settle", settling)
        await rig.write(kind)
    assert sizes == {"backfill": [2, 2, 2], "readings": [6]}
