"""One project cannot see another: rights, row-level security, and forgetting the project."""

import pytest

from central.storage.catalogue import Project
from central.storage.database import (
    DatabaseRefused,
    catalogue_transaction,
    platform_transaction,
    project_transaction,
)
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.timescale_fixtures"]
pytestmark = pytest.mark.integration

TABLES = (
    "projects",
    "sites",
    "gateways",
    "certificates",
    "enrolment_codes",
    "points",
    "point_sets",
    "api_keys",
    "logins",
    "sessions",
)


@pytest.fixture
def database(either_database: Database) -> Database:
    return either_database


@pytest.fixture
async def projects(database: Database) -> list[Project]:
    made = [await database.add_project(slug) for slug in ("one", "two")]
    for project in made:
        await database.add_gateway(project, f"gw-{project.slug}")
    return made


async def count(database: Database, query: str) -> int:
    async with database.service.transaction() as connection:
        return int(await connection.fetchval(query))


@pytest.mark.usefixtures("projects")
async def test_a_query_that_forgets_the_project_sees_nothing(database: Database) -> None:
    for table in TABLES:
        assert await count(database, f"SELECT count(*) FROM platform.{table}") == 0  # noqa: S608 -- a fixed list
    async with platform_transaction(database.service) as connection:
        assert await connection.fetchval("SELECT count(*) FROM platform.gateways") == 2
    # What a transaction was told does not stay with the connection.
    assert await count(database, "SELECT count(*) FROM platform.gateways") == 0


async def test_a_catalogue_transaction_sees_one_project(
    database: Database, projects: list[Project]
) -> None:
    async with catalogue_transaction(database.service, projects[0].project_id) as connection:
        rows = await connection.fetch("SELECT name FROM platform.gateways")
        slugs = await connection.fetch("SELECT slug FROM platform.projects")
    assert [row["name"] for row in rows] == ["gw-one"]
    assert [row["slug"] for row in slugs] == ["one"]


async def test_a_catalogue_transaction_cannot_write_for_another_project(
    database: Database, projects: list[Project]
) -> None:
    with pytest.raises(DatabaseRefused, match="row-level security"):
        async with catalogue_transaction(database.service, projects[0].project_id) as connection:
            await connection.execute(
                "INSERT INTO platform.sites (project_id, name) VALUES ($1, 'theirs')",
                projects[1].project_id,
            )


@pytest.mark.usefixtures("projects")
async def test_every_platform_table_is_under_forced_row_level_security(database: Database) -> None:
    async with database.owner.transaction() as connection:
        rows = await connection.fetch(
            "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class"
            " WHERE relnamespace = 'platform'::regnamespace AND relkind = 'r'"
        )
    assert {row["relname"]: row["forced"] for row in rows} == dict.fromkeys(TABLES, True)


@pytest.mark.usefixtures("projects")
@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM p_two.readings",
        "SELECT * FROM platform.projects",
        "SELECT * FROM log.records",
        "CREATE TABLE mine (a int)",
        "DROP TABLE readings",
        "SET LOCAL ROLE spine_owner",
    ],
)
async def test_a_projects_role_reaches_nothing_else(database: Database, query: str) -> None:
    with pytest.raises(DatabaseRefused, match=r"permission denied|must be owner"):
        async with project_transaction(database.service, "one") as connection:
            await connection.execute(query)


@pytest.mark.usefixtures("projects")
@pytest.mark.parametrize("query", ["SELECT * FROM p_one.readings", "SELECT * FROM readings"])
async def test_the_service_itself_reads_no_projects_readings(
    database: Database, query: str
) -> None:
    with pytest.raises(DatabaseRefused, match=r"permission denied|does not exist"):
        async with database.service.transaction() as connection:
            await connection.execute(query)


@pytest.mark.usefixtures("projects")
async def test_the_project_ends_with_the_transaction(database: Database) -> None:
    async with project_transaction(database.service, "one") as connection:
        assert await connection.fetchval("SELECT current_user::text") == "p_one"
        assert await connection.fetchval("SELECT count(*) FROM readings") == 0

    assert await count(database, "SELECT (current_user = 'spine_service')::int") == 1


@pytest.mark.usefixtures("projects")
async def test_a_project_that_does_not_exist_is_refused(database: Database) -> None:
    with pytest.raises(DatabaseRefused, match="p_three"):
        async with project_transaction(database.service, "three"):
            pass


@pytest.mark.usefixtures("projects")
async def test_the_same_statement_serves_each_project_its_own_rows(database: Database) -> None:
    """Prepared statements are kept per connection; the search path must still decide."""
    for slug in ("one", "two", "one"):
        async with project_transaction(database.service, slug) as connection:
            await connection.execute("INSERT INTO dirty_marks VALUES (now(), $1)", len(slug))
    counts = []
    for slug in ("one", "two"):
        async with project_transaction(database.service, slug) as connection:
            counts.append(await connection.fetchval("SELECT count(*) FROM dirty_marks"))
    assert counts == [2, 1]
