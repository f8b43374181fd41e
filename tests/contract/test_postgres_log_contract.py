"""The log in Postgres keeps the log contract, and gives out offsets under a lock."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from central.messaging import LogAway, PostgresLog, Record, create_topics, postgres_log
from central.messaging.postgres_log import _APPEND
from central.storage.database import Pool, open_pool
from tests.contract.log_suite import TOPIC, LogContract, LogRig, read_all
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class PostgresRig(LogRig):
    """The rig, with the database beneath it."""

    database: Database


@pytest.fixture
async def rig(database: Database) -> AsyncIterator[PostgresRig]:
    async with open_pool(database.service_dsn, "other", size=4) as pool:
        log, other = PostgresLog(database.service), PostgresLog(pool)
        await create_topics(log, "demo")
        yield PostgresRig(log, other, log.wipe, database)


class _SlowFirstLook(PostgresLog):
    """A log whose first look is held up when it has found nothing."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.has_looked, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def _read(self, topic: str, offset: int | None, limit_bytes: int) -> list[Record]:
        records = await super()._read(topic, offset, limit_bytes)
        if not self.has_looked.is_set():
            self.has_looked.set()
            await self.may_go_on.wait()
        return records


class TestPostgresLog(LogContract):
    async def test_a_reader_never_passes_an_uncommitted_record(self, rig: PostgresRig) -> None:
        async with rig.database.service.transaction() as slow:
            await slow.fetchrow(_APPEND, TOPIC, [b"slow"], [b"first"])
            quick = asyncio.create_task(rig.other.append(TOPIC, b"quick", b"second"))
            await _somebody_waits(rig.database)
            # A bare sequence would have let the quick one commit, and a reader pass the slow one.
            assert await read_all(rig.log) == []
            assert not quick.done()
        await quick

        assert [record.value for record in await read_all(rig.log)] == [b"first", b"second"]

    async def test_appends_that_wait_are_written_together(self, rig: PostgresRig) -> None:
        before = await _transactions(rig.database)

        await asyncio.gather(*(rig.log.append(TOPIC, b"gw", bytes([at])) for at in range(50)))

        assert await _transactions(rig.database) - before < 10
        values = [record.value for record in await read_all(rig.log)]
        assert values == [bytes([at]) for at in range(50)]

    async def test_a_second_reader_takes_no_news_from_the_first(
        self, rig: PostgresRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres_log, "POLL_S", 60.0)
        log = _SlowFirstLook(rig.database.service)
        first = asyncio.create_task(log.read(TOPIC, 0, 0, 1_000, 60))
        await log.has_looked.wait()
        await log.append(TOPIC, b"gw", b"news")
        assert len(await log.read(TOPIC, 0, 0, 1_000, 60)) == 1
        log.may_go_on.set()
        async with asyncio.timeout(30):
            assert [record.value for record in await first] == [b"news"]

    async def test_an_append_given_up_does_not_stop_the_others(self, rig: PostgresRig) -> None:
        async with rig.database.service.transaction() as holding:
            await holding.execute("SELECT FROM log.topics WHERE topic = $1 FOR UPDATE", TOPIC)
            tasks = [
                asyncio.create_task(rig.log.append(TOPIC, b"gw", bytes([at]))) for at in range(5)
            ]
            await _somebody_waits(rig.database)
            tasks[0].cancel()
            tasks[3].cancel()
            done = await asyncio.gather(tasks[0], tasks[3], return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in done)

        await asyncio.gather(tasks[1], tasks[2], tasks[4])
        values = [record.value for record in await read_all(rig.log)]
        assert {b"\x01", b"\x02", b"\x04"} <= set(values)

    async def test_a_database_that_is_away_is_told_as_the_log_being_away(self) -> None:
        async with open_pool("postgresql://nobody@127.0.0.1:1/none") as pool:
            log = PostgresLog(pool)
            with pytest.raises(LogAway):
                await log.append(TOPIC, b"gw", b"1")
            with pytest.raises(LogAway):
                await log.read(TOPIC, 0, None, 100, 0)


async def _somebody_waits(database: Database) -> None:
    query = "SELECT true FROM pg_locks WHERE NOT granted LIMIT 1"
    async with asyncio.timeout(10):
        while not await database.service.fetchval(query):  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.01)


async def _transactions(database: Database) -> int:
    """Count appends by the versions the topic's row has had."""
    return int(
        await database.service.fetchval(
            "SELECT xmin::text::int8 FROM log.topics WHERE topic = $1", TOPIC
        )
    )
