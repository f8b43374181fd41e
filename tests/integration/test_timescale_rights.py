"""What projects may do on TimescaleDB: use their own readings, and nothing of its machinery."""

import pytest

from central.storage.database import Connection, DatabaseRefused, project_transaction
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.timescale_fixtures"]
pytestmark = pytest.mark.integration


@pytest.fixture
async def database(timescale: Database) -> Database:
    for slug in ("one", "two"):
        await timescale.add_project(slug)
        async with project_transaction(timescale.service, slug) as connection:
            await connection.execute("INSERT INTO readings VALUES ('2026-01-01Z', 1, 1, 0)")
    return timescale


async def relation(connection: Connection, name: str) -> int:
    return int(await connection.fetchval("SELECT $1::regclass::oid::int8", name))


async def chunk(database: Database, slug: str) -> tuple[str, int]:
    """Name a project's chunk and tell its number: numbers pass by the rights of a schema."""
    async with database.owner.transaction() as connection:
        name = await connection.fetchval(f"SELECT show_chunks('p_{slug}.readings')::text")
        return name, await relation(connection, name)


async def test_chunks_lie_in_the_schema_of_their_project(database: Database) -> None:
    for slug in ("one", "two"):
        name, _ = await chunk(database, slug)
        assert name.startswith(f"p_{slug}.readings_")


async def test_a_project_cannot_read_or_change_chunks_of_another(database: Database) -> None:
    name, _ = await chunk(database, "two")
    for query in (f"TABLE {name}", f"TRUNCATE {name}", f"DROP TABLE {name}"):
        with pytest.raises(DatabaseRefused, match="permission denied for schema p_two"):
            async with project_transaction(database.service, "one") as connection:
                await connection.execute(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT public.drop_chunks({table}::regclass, older_than => now())",
        "SELECT public.set_chunk_time_interval({table}::regclass, interval '1 minute')",
        "SELECT _timescaledb_functions.drop_chunk({chunk}::regclass)",
        "SELECT _timescaledb_internal.drop_chunk({chunk}::regclass)",
        "SELECT _timescaledb_functions.chunk_index_clone({chunk})",
        "SELECT public.detach_tablespaces({table}::regclass)",
        "CALL public.merge_chunks({chunk}::regclass, {chunk}::regclass)",
        "CALL public.run_job(3)",
        "SELECT public.timescaledb_pre_restore()",
        "SELECT _timescaledb_functions.stop_background_workers()",
        "UPDATE _timescaledb_catalog.chunk SET dropped = true",
        "DELETE FROM _timescaledb_config.bgw_job",
        "CREATE TABLE _timescaledb_internal.mine (a int)",
        "SET timescaledb.restoring = on",
    ],
)
@pytest.mark.parametrize("whose", ["one", "two"])
async def test_a_project_cannot_use_the_machinery_on_its_own_or_others_chunks(
    database: Database, query: str, whose: str
) -> None:
    async with database.owner.transaction() as connection:
        table = await relation(connection, f"p_{whose}.readings")
    _, number = await chunk(database, whose)

    with pytest.raises(DatabaseRefused, match="permission denied"):
        async with project_transaction(database.service, "one") as connection:
            await connection.execute(query.format(table=table, chunk=number))


async def test_nothing_of_the_machinery_that_changes_something_is_open_to_everybody(
    database: Database,
) -> None:
    async with database.owner.transaction() as connection:
        rows = await connection.fetch(
            "SELECT routine.oid::regprocedure::text AS name FROM pg_proc AS routine"
            " JOIN pg_depend ON objid = routine.oid AND deptype = 'e'"
            " JOIN pg_extension ON refobjid = pg_extension.oid WHERE extname = 'timescaledb'"
            " AND provolatile = 'v' AND has_function_privilege('p_one', routine.oid, 'EXECUTE')"
        )
    assert [row["name"] for row in rows] == []


async def test_the_service_can_drop_no_chunks_and_set_no_width(database: Database) -> None:
    for call in (
        "drop_chunks('p_one.readings', older_than => now())",
        "set_chunk_time_interval('p_one.readings', interval '1 minute')",
    ):
        with pytest.raises(DatabaseRefused, match="permission denied"):
            await database.service.fetchval(f"SELECT {call}")


async def test_a_function_of_the_owner_is_not_misled_by_tables_of_its_caller(
    database: Database,
) -> None:
    async with project_transaction(database.service, "one") as connection:
        await connection.execute("CREATE TEMPORARY TABLE latest (a int) ON COMMIT DROP")
        before = await connection.fetchval("SELECT chunk_width()")
        assert await connection.fetchval("SELECT tune_chunks()") == before
    with pytest.raises(DatabaseRefused, match="permission denied for schema p_two"):
        async with project_transaction(database.service, "one") as connection:
            await connection.execute("SELECT p_two.tune_chunks()")
