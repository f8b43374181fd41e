"""A process that hangs keeps neither its leases nor its locks, and once it goes on it is fenced."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from central.storage import database as database_module
from central.storage import writer
from central.storage.database import DatabaseAway, Pool, open_pool
from central.storage.settled import read_settled
from central.storage.writer import run_writers
from tests.integration.writer_kit import T0, Rig, become, open_rig
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.timescale_fixtures"]
pytestmark = pytest.mark.integration

DEADLINE_S = 60.0
LEASE_S = 1.0
STORAGE = f"""
import asyncio, sys
from central.messaging import PostgresLog, RecordCodec
from central.storage import writer
from central.storage.database import open_pool

async def main(dsn: str) -> None:
    writer.LEASE_S, writer.LOOK_S = {LEASE_S}, 0.1
    async with open_pool(dsn, "hanging") as pool:
        await writer.run_writers(pool, PostgresLog(pool), RecordCodec())

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
async def rig(either_database: Database) -> Rig:
    return await open_rig(either_database)


@asynccontextmanager
async def storage_process(dsn: str) -> AsyncIterator[int]:
    """Run the writers in a process of their own, and give its pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STORAGE, dsn, cwd=Path(__file__).parents[2]
    )
    try:
        yield process.pid
    finally:
        process.kill()
        await process.wait()


async def test_who_hangs_loses_its_lease_and_once_it_goes_on_writes_nothing_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOOK_S", 0.1)
    pool = rig.database.service

    async def is_settled(seqs: tuple[tuple[int, int], ...]) -> bool:
        rows = await read_settled(pool, "demo", 1, [7])
        return bool(rows) and rows[0].seqs == seqs

    async with asyncio.timeout(DEADLINE_S), storage_process(rig.database.service_dsn) as pid:
        await rig.publish_rows([(1, T0, 1.0, 0)])
        await become(lambda: is_settled(((0, 0),)))

        os.kill(pid, signal.SIGSTOP)
        await rig.publish_rows([(1, T0 + 1, 2.0, 0)])
        async with asyncio.TaskGroup() as group:
            second = group.create_task(run_writers(pool, rig.log, rig.codec))
            await become(lambda: is_settled(((0, 1),)))
            os.kill(pid, signal.SIGCONT)
            for seq in range(2, 40):
                await rig.publish_rows([(1, T0 + seq, float(seq), 0)])
            await become(lambda: is_settled(((0, 39),)))
            second.cancel()

    assert len(await rig.stored()) == 40
    assert (await rig.settled()).delivered == 40


async def test_who_hangs_in_a_transaction_does_not_keep_its_locks(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "SILENT_S", 0.3)
    query = "UPDATE log.topics SET next_offset = next_offset WHERE topic = 'spine.demo.readings'"

    async def hang(pool: Pool) -> None:
        async with pool.transaction() as hanging:
            await hanging.execute(query)
            await rig.database.service.fetchval(query)
            await hanging.fetchval("SELECT 1")

    async with asyncio.timeout(DEADLINE_S), open_pool(rig.database.service_dsn, size=1) as other:
        with pytest.raises(DatabaseAway):
            await hang(other)
        await other.ping()
