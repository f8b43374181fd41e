"""The catalogue in a real database: who may what, once, and for how long."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from central.storage.catalogue import (
    CatalogueError,
    Gateway,
    create_gateway,
    create_key,
    create_project,
    create_site,
    end_session,
    find_certificate,
    find_key,
    find_point_set,
    find_project,
    find_session,
    identify,
    issue_code,
    issue_login,
    keep_point_set,
    list_gateways,
    list_points,
    list_projects,
    list_sites,
    note_hello,
    note_seen,
    points_by_id,
    points_by_key,
    redeem_code,
    redeem_login,
    refused_fingerprints,
    register_certificate,
    revoke_gateway,
    revoke_key,
)
from central.storage.database import platform_transaction
from shared.model import Point, PointClass, PointSet, PointType
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration

PRINT = b"f" * 32


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    return await database.add_gateway(await database.add_project("demo"))


async def register(database: Database, gateway: Gateway, days: int) -> None:
    not_after = datetime.now(UTC) + timedelta(days=days)
    await register_certificate(database.service, gateway.gateway_id, PRINT, b"s" * 32, not_after)


async def age(database: Database, table: str, by: str) -> None:
    """Let time pass for what expires."""
    async with platform_transaction(database.owner) as connection:
        query = f"UPDATE platform.{table} SET expires_at = expires_at - $1::text::interval"  # noqa: S608 -- fixed names
        await connection.execute(query, by)


async def test_a_project_is_made_once_and_found(database: Database) -> None:
    first = await create_project(database.owner, "demo", "The demo")

    assert await create_project(database.owner, "demo") == first
    assert await find_project(database.service, "demo") == first
    assert await find_project(database.service, "other") is None
    assert await list_projects(database.service) == [first]


@pytest.mark.parametrize("slug", ["", "Demo", "1st", "a-b", 'x"; DROP', "a" * 41])
async def test_a_slug_that_cannot_be_is_refused(database: Database, slug: str) -> None:
    with pytest.raises(CatalogueError, match="slug"):
        await create_project(database.owner, slug)


async def test_sites_and_gateways_are_made_and_listed(database: Database) -> None:
    project = await database.add_project("demo")
    site = await create_site(database.service, project.project_id, "main", "Europe/Vienna")
    made = await create_gateway(database.service, project.project_id, site.site_id, "gw1")

    assert await list_sites(database.service, project.project_id) == [site]
    (row,) = await list_gateways(database.service, project.project_id)
    assert (row.gateway_id, row.name, row.site) == (made.gateway_id, "gw1", "main")
    assert (row.last_seen_at, row.software, row.revoked) == (None, None, False)
    with pytest.raises(CatalogueError, match="called gw1"):
        await create_gateway(database.service, project.project_id, site.site_id, "gw1")
    with pytest.raises(CatalogueError, match="no site"):
        await create_gateway(database.service, project.project_id, 999, "gw2")


async def test_when_a_gateway_was_seen_only_moves_forward(
    database: Database, gateway: Gateway
) -> None:
    later = datetime(2026, 1, 2, tzinfo=UTC)
    await note_hello(database.service, gateway.gateway_id, "spine \x001.0", later)

    await note_seen(database.service, [gateway.gateway_id], later - timedelta(days=1))

    (row,) = await list_gateways(database.service, gateway.project_id)
    assert (row.last_seen_at, row.software) == (later, "spine 1.0")


async def test_a_certificate_tells_who_it_is(database: Database, gateway: Gateway) -> None:
    await register(database, gateway, days=7)

    assert await identify(database.service, PRINT) == gateway
    assert await identify(database.service, b"x" * 32) is None


async def test_an_expired_certificate_is_nobody_but_still_found(
    database: Database, gateway: Gateway
) -> None:
    await register(database, gateway, days=-1)

    assert await identify(database.service, PRINT) is None
    found = await find_certificate(database.service, PRINT)
    assert found is not None
    assert (found.gateway, found.expired, found.revoked) == (gateway, True, False)


async def test_a_revoked_gateway_is_nobody_and_gets_nothing_more(
    database: Database, gateway: Gateway
) -> None:
    await register(database, gateway, days=7)
    code = await issue_code(database.service, gateway)

    assert await revoke_gateway(database.service, gateway.project_id, "gw1")

    assert await identify(database.service, PRINT) is None
    assert await refused_fingerprints(database.service) == {PRINT}
    assert await redeem_code(database.service, code) is None
    with pytest.raises(CatalogueError, match="revoked"):
        await issue_code(database.service, gateway)
    assert not await revoke_gateway(database.service, gateway.project_id, "none")


async def test_a_code_is_used_once_even_by_two_at_once(
    database: Database, gateway: Gateway
) -> None:
    code = await issue_code(database.service, gateway)
    assert len(code) == 16

    won = await asyncio.gather(*(redeem_code(database.service, code) for _ in range(5)))

    assert sorted(won, key=str) == sorted([gateway, None, None, None, None], key=str)


async def test_codes_end_by_time_and_by_the_next_one(database: Database, gateway: Gateway) -> None:
    first = await issue_code(database.service, gateway)
    second = await issue_code(database.service, gateway)

    assert await redeem_code(database.service, first) is None
    await age(database, "enrolment_codes", "15 minutes")
    assert await redeem_code(database.service, second) is None


async def test_secrets_are_kept_as_hashes_only(database: Database, gateway: Gateway) -> None:
    code = await issue_code(database.service, gateway)
    key = await create_key(database.service, gateway.project_id, "k")
    token = await issue_login(database.service, gateway.project_id)

    async with platform_transaction(database.owner) as connection:
        kept = "".join(
            [
                str([tuple(row) for row in await connection.fetch(f"TABLE platform.{table}")])
                for table in ("enrolment_codes", "api_keys", "logins")
            ]
        )
    for secret in (code, key.rpartition("_")[2], token):
        assert secret not in kept


async def test_a_key_opens_its_project_until_it_ends(database: Database, gateway: Gateway) -> None:
    clear = await create_key(database.service, gateway.project_id, "page", ["read", "write"])

    key = await find_key(database.service, clear)

    assert key is not None
    assert (key.project, key.name, key.scopes) == ("demo", "page", ("read", "write"))
    wrong = clear[:-1] + ("a" if clear[-1] != "a" else "b")
    for text in (wrong, "", "spine__", clear.upper(), clear + "a"):
        assert await find_key(database.service, text) is None
    assert await revoke_key(database.service, gateway.project_id, "page") == 1
    assert await find_key(database.service, clear) is None


async def test_a_key_expires(database: Database, gateway: Gateway) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    clear = await create_key(database.service, gateway.project_id, "old", expires_at=past)

    assert await find_key(database.service, clear) is None


async def test_a_login_opens_one_session(database: Database, gateway: Gateway) -> None:
    token = await issue_login(database.service, gateway.project_id)

    session = await redeem_login(database.service, token)

    assert session is not None
    assert await redeem_login(database.service, token) is None
    found = await find_session(database.service, session)
    assert found is not None
    assert found.project == "demo"
    await end_session(database.service, session)
    assert await find_session(database.service, session) is None


async def test_logins_and_sessions_expire(database: Database, gateway: Gateway) -> None:
    late = await issue_login(database.service, gateway.project_id)
    await age(database, "logins", "15 minutes")
    session = await redeem_login(
        database.service, await issue_login(database.service, gateway.project_id)
    )
    await age(database, "sessions", "12 hours")

    assert await redeem_login(database.service, late) is None
    assert session is not None
    assert await find_session(database.service, session) is None


POINTS = PointSet(
    (
        Point("ahu1/supply_temp", "degC"),
        Point("ahu1/fan", "", PointType.BOOLEAN, PointClass.HIGH),
        Point("vav1/temp", "degC"),
    )
)


async def test_a_point_set_is_kept_once_whoever_asks(database: Database, gateway: Gateway) -> None:
    assert await find_point_set(database.service, gateway, POINTS.hash) is None

    kept = await asyncio.gather(
        *(keep_point_set(database.service, gateway, POINTS) for _ in range(6))
    )

    ids = kept[0].tolist()
    assert len(set(ids)) == 3
    assert all(other.tolist() == ids for other in kept)
    found = await find_point_set(database.service, gateway, POINTS.hash)
    assert found is not None
    assert found.tolist() == ids
    assert found.dtype.name == "int32"


async def test_another_set_of_the_same_points_has_the_same_ids(
    database: Database, gateway: Gateway
) -> None:
    ids = (await keep_point_set(database.service, gateway, POINTS)).tolist()
    turned = PointSet((Point("new/point"), Point("ahu1/fan", "", PointType.BOOLEAN)))

    new, fan = (await keep_point_set(database.service, gateway, turned)).tolist()

    assert fan == ids[1]
    assert new == max(ids) + 1
    rows = await points_by_key(database.service, gateway.project_id, ["ahu1/fan", "none"])
    assert rows["ahu1/fan"].klass == "normal"
    assert set(rows) == {"ahu1/fan"}


async def test_a_point_stays_as_the_gateway_that_made_it_says(
    database: Database, gateway: Gateway
) -> None:
    pool, project_id = database.service, gateway.project_id
    other = await database.add_gateway(await database.add_project("demo"), "gw2")
    with capture_logs() as logged:
        ids = (await keep_point_set(pool, gateway, POINTS)).tolist()
    assert logged == []
    before = await points_by_key(pool, project_id, ["vav1/temp"])
    claim = PointSet((Point("own/point"), Point("vav1/temp", "K", PointType.TEXT, PointClass.HIGH)))

    with capture_logs() as logged:
        for _ in range(2):
            own, claimed = (await keep_point_set(pool, other, claim)).tolist()

    assert claimed == ids[2]
    assert await points_by_key(pool, project_id, ["vav1/temp"]) == before
    assert (await points_by_id(pool, project_id, [own]))[own].gateway == "gw2"
    (warned,) = logged
    assert warned["log_level"] == "warning"
    assert (warned["gateway_id"], warned["owners"]) == (other.gateway_id, [gateway.gateway_id])
    assert (warned["points"], warned["keys"]) == (1, ["vav1/temp"])

    await keep_point_set(pool, gateway, PointSet((Point("vav1/temp", "K"),)))
    changed = await points_by_key(pool, project_id, ["vav1/temp"])
    assert (changed["vav1/temp"].unit, changed["vav1/temp"].gateway) == ("K", "gw1")


async def test_sets_that_overlap_kept_at_once_agree(database: Database, gateway: Gateway) -> None:
    sets = [
        PointSet(tuple(Point(f"p/{at}") for at in range(start, start + 30)))
        for start in range(0, 50, 5)
    ]

    kept = await asyncio.gather(
        *(keep_point_set(database.service, gateway, points) for points in sets)
    )

    by_key: dict[str, set[int]] = {}
    for points, ids in zip(sets, kept, strict=True):
        for point, point_id in zip(points.points, ids.tolist(), strict=True):
            by_key.setdefault(point.key, set()).add(point_id)
    assert all(len(ids) == 1 for ids in by_key.values())
    assert len(set.union(*by_key.values())) == len(by_key)


async def test_one_key_in_two_projects_is_two_points(database: Database, gateway: Gateway) -> None:
    other = await database.add_gateway(await database.add_project("other"))

    mine = await keep_point_set(database.service, gateway, POINTS)
    theirs = await keep_point_set(database.service, other, POINTS)

    assert not set(mine.tolist()) & set(theirs.tolist())
    assert await find_point_set(database.service, other, POINTS.hash) is not None


async def test_points_are_listed_by_key_page_by_page(database: Database, gateway: Gateway) -> None:
    ids = (await keep_point_set(database.service, gateway, POINTS)).tolist()
    pool, project_id = database.service, gateway.project_id

    first = await list_points(pool, project_id, limit=2)
    rest = await list_points(pool, project_id, after_key=first[-1].key)

    assert [row.key for row in first] == ["ahu1/fan", "ahu1/supply_temp"]
    assert [row.key for row in rest] == ["vav1/temp"]
    assert [row.key for row in await list_points(pool, project_id, prefix="vav")] == ["vav1/temp"]
    by_id = await points_by_id(pool, project_id, ids)
    assert by_id[ids[0]].key == "ahu1/supply_temp"
    assert by_id[ids[0]].gateway == "gw1"
