"""The embedded Postgres survives kills of central and of itself, and is never there twice."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pytest

from central.messaging import LogAway, PostgresLog, ReadingRecord, RecordCodec, create_topics, topic
from central.storage.catalogue import create_project
from central.storage.database import DatabaseAway, Pool, open_pool
from central.storage.embedded import EmbeddedPostgres, embedded_postgres
from central.storage.migrate import migrate
from central.storage.postmaster import PostgresBroken
from central.storage.settled import SettledRow, read_settled
from central.storage.writer import run_writers
from shared.columns import Columns

pytestmark = pytest.mark.integration

HOLD = """
import asyncio, signal, sys
from pathlib import Path
from central.storage.embedded import embedded_postgres

# A test run in the background of a shell hands down that SIGINT is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def hold() -> None:
    async with embedded_postgres(Path(sys.argv[1])):
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not under pytest's own folder: another session would close that to the server's user.
    with TemporaryDirectory(prefix="spine-test-") as name:
        yield Path(name).resolve() / "postgres"


def servers(folder: Path) -> list[psutil.Process]:
    """List the servers (not their workers) whose directory is the data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and process.cwd() == str(folder / "data"):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    pids = {process.pid for process in found}
    return [process for process in found if process.ppid() not in pids]


@asynccontextmanager
async def another_central(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run another process that uses the folder, until the block ends it by SIGKILL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"up\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.stdout.read()


async def keep_a_row(running: EmbeddedPostgres) -> None:
    async with open_pool(running.owner_dsn(), size=1) as pool, pool.transaction() as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


async def kept_row(running: EmbeddedPostgres) -> int:
    async with open_pool(running.owner_dsn(), size=1) as pool:
        return int(await pool.fetchval("SELECT answer FROM kept"))


async def test_it_starts_and_leaves_nothing_running(folder: Path) -> None:
    async with embedded_postgres(folder) as running:
        await keep_a_row(running)
        assert len(servers(folder)) == 1

    assert servers(folder) == []
    async with embedded_postgres(folder) as running:
        assert await kept_row(running) == 42


async def test_it_asks_everybody_for_a_password_and_keeps_them_private(folder: Path) -> None:
    async with embedded_postgres(folder) as running:
        assert (folder / "passwords.json").stat().st_mode & 0o777 == 0o600
        assert (folder / "data").stat().st_mode & 0o077 == 0
        password = running.passwords.service
        for dsn in (
            running.service_dsn().replace(password, "wrong"),
            running.superuser_dsn().replace(f":{running.passwords.superuser}@", "@"),
        ):
            async with open_pool(dsn, size=1) as pool:
                with pytest.raises(DatabaseAway, match="password"):
                    await pool.ping()
        async with open_pool(running.superuser_dsn(), size=1) as pool:
            assert await pool.fetchval("SHOW listen_addresses") == ""
            assert await pool.fetchval("SHOW fsync") == "on"
        assert password not in repr(running.postmaster)


async def test_a_server_whose_central_was_killed_is_found_and_used(folder: Path) -> None:
    async with another_central(folder) as process:
        (before,) = servers(folder)
        process.kill()
        await process.wait()
    assert before.is_running()

    async with embedded_postgres(folder) as running:
        await keep_a_row(running)
        assert [server.pid for server in servers(folder)] == [before.pid]

    assert servers(folder) == []


async def test_the_last_user_stops_it(folder: Path) -> None:
    async with embedded_postgres(folder):
        async with embedded_postgres(folder) as second:
            assert len(servers(folder)) == 1
        async with open_pool(second.service_dsn(), size=1) as pool:
            await pool.ping()
        async with another_central(folder) as process:
            process.send_signal(signal.SIGINT)
            await process.wait()
        assert len(servers(folder)) == 1

    assert servers(folder) == []


async def test_many_that_start_at_once_share_one_server(folder: Path) -> None:
    async def use() -> int:
        async with embedded_postgres(folder) as running, open_pool(running.service_dsn()) as pool:
            await pool.ping()
            return len(servers(folder))

    assert await asyncio.gather(*(use() for _ in range(4))) == [1, 1, 1, 1]
    assert servers(folder) == []


async def test_a_killed_server_recovers_what_was_committed(folder: Path) -> None:
    async with embedded_postgres(folder) as running:
        await keep_a_row(running)
        running.postmaster.kill()

    async with embedded_postgres(folder) as running:
        assert await kept_row(running) == 42


async def test_a_pid_file_that_names_another_program_does_not_stop_it(folder: Path) -> None:
    async with embedded_postgres(folder) as running:
        await keep_a_row(running)
        stale = (folder / "data" / "postmaster.pid").read_text()
        running.postmaster.kill()
    rest = stale.partition("\n")[2]
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{rest}")

    async with embedded_postgres(folder) as running:
        assert await kept_row(running) == 42


async def test_a_first_start_that_was_cut_short_is_begun_again(folder: Path) -> None:
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n")

    async with embedded_postgres(folder) as running:
        await keep_a_row(running)


async def test_a_long_path_has_its_socket_elsewhere(folder: Path) -> None:
    long = folder / ("deep" * 20) / "below"

    async with embedded_postgres(long) as running:
        await keep_a_row(running)
        assert not running.postmaster.socket_folder.is_relative_to(long)
        assert running.postmaster.socket_folder.stat().st_mode & 0o077 == 0

    running.postmaster.socket_folder.rmdir()


async def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with pytest.raises(PostgresBroken, match=r"server\.log"):
        async with embedded_postgres(folder, {"shared_buffers": "nonsense"}):
            pass
    assert "shared_buffers" in (folder / "server.log").read_text()


async def test_the_writer_goes_on_when_the_server_was_killed(folder: Path) -> None:
    async with embedded_postgres(folder) as running:
        await migrate(running.owner_dsn())
        async with open_pool(running.owner_dsn(), size=1) as owner:
            await create_project(owner, "demo")
        async with open_pool(running.service_dsn()) as pool, asyncio.TaskGroup() as group:
            log, codec = PostgresLog(pool), RecordCodec()
            await create_topics(log, "demo")
            tasks = [
                group.create_task(running.watch()),
                group.create_task(run_writers(pool, log, codec)),
            ]
            for seq in range(3):
                await append(log, codec, seq)
                await settles(pool, seq)
                running.postmaster.kill()
            await append(log, codec, 3)
            row = await settles(pool, 3)
            for task in tasks:
                task.cancel()

    assert (row.seqs, row.delivered, row.collapsed) == (((0, 3),), 40, 0)


async def append(log: PostgresLog, codec: RecordCodec, seq: int) -> None:
    times = 1_700_000_000_000_000 + 10 * seq + np.arange(10, dtype=np.int64)
    columns = Columns.of([1] * 10, times, [float(seq)] * 10, [0] * 10)
    value = codec.encode(ReadingRecord(1, 7, seq, 0, columns))
    async with asyncio.timeout(60):
        while True:
            try:
                await log.append(topic("demo", "readings"), b"1", value)
            except LogAway:
                await asyncio.sleep(0.05)
            else:
                return


async def settles(pool: Pool, seq: int) -> SettledRow:
    async with asyncio.timeout(60):
        while True:
            # A connection of the pool that the kill broke is found out when it is used next.
            with suppress(DatabaseAway):
                rows = await read_settled(pool, "demo")
                if rows and rows[0].seqs == ((0, seq),):
                    return rows[0]
            await asyncio.sleep(0.02)
