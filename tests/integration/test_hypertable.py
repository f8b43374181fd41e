"""Readings on TimescaleDB: chunks as wide as readings are dense, and batches across many chunks."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from central.storage.database import Connection, open_pool, project_transaction
from central.storage.hypertable import FIRST_WIDTH, MAX_CHUNKS, make_hypertable
from central.storage.hypertable_upkeep import tune_chunks
from central.storage.migrate import migrate
from central.storage.roles import prepare_database, prepare_extension
from tests.integration.writer_kit import NAN, T0, Rig, open_rig, readings
from tests.servers.postgres import Database, Server

pytest_plugins = ["tests.servers.timescale_fixtures"]
pytestmark = pytest.mark.integration

DAY_US = 86_400_000_000
DAYS = [timedelta(days=days) for days in range(10)]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def rig(timescale: Database) -> Rig:
    return await open_rig(timescale)


async def width_of(rig: Rig) -> timedelta | None:
    async with project_transaction(rig.database.service, "demo") as connection:
        width: timedelta | None = await connection.fetchval("SELECT chunk_width()")
    return width


async def set_width(rig: Rig, width: timedelta) -> None:
    async with rig.database.owner.transaction() as owner:
        await owner.fetchval(
            "SELECT set_chunk_time_interval('p_demo.readings', $1::interval)", width
        )


async def tune(rig: Rig, now: datetime) -> timedelta:
    async with project_transaction(rig.database.service, "demo") as connection:
        width: timedelta = await connection.fetchval("SELECT tune_chunks($1)", now)
    return width


async def fill(rig: Rig, start: datetime, span: timedelta, rows: int) -> None:
    async with project_transaction(rig.database.service, "demo") as connection:
        await connection.execute(
            "INSERT INTO readings (observed_at, value, point_id, quality)"
            " SELECT $1::timestamptz + $2::interval * (row / $3::float8), row, 1, 0"
            " FROM generate_series(0, $3 - 1) AS row",
            start,
            span,
            rows,
        )


async def chunks(rig: Rig) -> int:
    async with rig.database.owner.transaction() as owner:
        return int(await owner.fetchval("SELECT count(*) FROM show_chunks('p_demo.readings')"))


async def test_a_new_project_has_chunks_of_a_day(rig: Rig) -> None:
    assert await width_of(rig) == FIRST_WIDTH
    rows = [(1, T0 + day * DAY_US, float(day), 0) for day in range(3)]
    await rig.publish_rows(rows)
    await rig.write()
    assert await rig.stored() == rows
    assert await chunks(rig) == 3


async def test_a_batch_across_many_chunks_is_stored(rig: Rig) -> None:
    rows = [(1, T0 + day * DAY_US, float(day), 0) for day in range(MAX_CHUNKS)]
    await rig.publish_rows(rows)

    await rig.write()

    assert await rig.stored() == rows
    assert (await rig.settled()).quarantined == 0


async def test_a_batch_across_too_many_chunks_is_put_aside_alone(rig: Rig) -> None:
    await rig.publish_rows([(1, T0, 1.0, 0)])
    scattered = [(2, T0 + day * DAY_US, 1.0, 0) for day in range(MAX_CHUNKS + 1)]
    await rig.publish_rows(scattered)
    for at in range(1, 40):
        await rig.publish_rows([(1, T0 + at, 1.0, 0)])

    await rig.write()

    row = await rig.settled()
    assert (row.seqs, row.delivered, row.quarantined) == (((0, 40),), 40, len(scattered))
    (kept,) = await rig.fetch("SELECT seq, code, detail FROM quarantine")
    assert kept[:2] == (1, "database_refused")
    assert f"lie in {MAX_CHUNKS + 1} chunks" in str(kept[2])
    assert len(await rig.stored()) == 40


async def test_batches_of_few_chunks_each_pass_though_together_they_reach_far(rig: Rig) -> None:
    for year in range(40):
        start = T0 - year * 365 * DAY_US
        await rig.publish_rows([(1, start + day * DAY_US, 1.0, 0) for day in range(20)])

    await rig.write()

    row = await rig.settled()
    assert (row.delivered, row.quarantined) == (800, 0)


async def test_readings_that_meet_others_in_several_chunks_are_merged(rig: Rig) -> None:
    first = [(1, T0 + day * DAY_US, float(day), 0) for day in range(0, 6, 2)]
    second = [(1, T0 + day * DAY_US, NAN if day == 2 else 9.0, 0) for day in range(6)]
    await rig.publish_rows(first)
    await rig.write()
    await rig.publish_rows(second, epoch=8, seq=0)
    await rig.write()

    other = await rig.settled(8)
    assert (other.delivered, other.collapsed) == (3, 3)
    assert [row[1] for row in await rig.stored()] == [T0 + day * DAY_US for day in range(6)]


async def test_dense_readings_make_new_chunks_narrower_at_once(rig: Rig) -> None:
    await set_width(rig, DAYS[8])
    await fill(rig, BEGIN, timedelta(hours=1), 300_000)
    async with rig.database.owner.transaction() as owner:
        start = await owner.fetchval(
            "SELECT range_start FROM timescaledb_information.chunks"
            " WHERE hypertable_schema = 'p_demo'"
        )

    # 300,000 rows in what is taken for the first hour: 20 million in 2.8 days.
    assert await tune(rig, start + timedelta(hours=1)) == DAYS[4]
    assert await width_of(rig) == DAYS[4]


async def test_sparse_readings_make_new_chunks_wider_one_step_at_a_time(rig: Rig) -> None:
    six_hours = timedelta(hours=6)
    await set_width(rig, six_hours)
    await fill(rig, BEGIN, 3 * six_hours, 30)
    now = BEGIN + 3 * six_hours + timedelta(hours=1)

    assert await tune(rig, now) == 2 * six_hours
    # No chunk of the new width was filled from end to end yet: nothing tells more.
    assert await tune(rig, now) == 2 * six_hours


async def test_without_readings_the_width_stays(rig: Rig) -> None:
    assert await tune_chunks(rig.database.service, "demo") == FIRST_WIDTH


@pytest.fixture
async def plain(timescale_server: Server) -> AsyncIterator[str]:
    """Make a migrated database that has no TimescaleDB yet."""
    name = "test_plain_first"
    async with open_pool(timescale_server.superuser_dsn(), size=1) as superuser:
        await prepare_database(superuser, name)
        try:
            await migrate(timescale_server.owner_dsn(name))
            yield name
        finally:
            await superuser.fetchval(f"DROP DATABASE {name} WITH (FORCE)")


async def make(owner: Connection) -> bool:
    await owner.execute("SET LOCAL search_path = p_demo")
    return await make_hypertable(owner)


async def test_readings_of_a_plain_table_are_moved_into_chunks(
    timescale_server: Server, plain: str
) -> None:
    dsns = timescale_server.service_dsn(plain), timescale_server.owner_dsn(plain)
    async with open_pool(dsns[0], size=8) as service, open_pool(dsns[1], size=2) as owner:
        rig = await open_rig(Database(*dsns, service, owner))
        rows = [(1, T0 + day * DAY_US, float(day), 0) for day in range(5)]
        await rig.publish_rows(rows)
        await rig.write()
        assert await width_of(rig) is None
        async with owner.transaction() as connection:
            assert not await make(connection)

        async with open_pool(timescale_server.superuser_dsn(plain), size=1) as superuser:
            assert await prepare_extension(superuser)
        async with owner.transaction() as connection:
            assert await make(connection)

        assert await width_of(rig) == FIRST_WIDTH
        assert await rig.stored() == rows
        assert await chunks(rig) == 5
        await rig.publish(readings([(1, T0, 7.0, 0)], epoch=8))
        await rig.write()
        assert (await rig.settled(8)).collapsed == 1
