"""Live values over the WebSocket of a real central."""

import asyncio
from typing import Any

import pytest

from central.egress.feed import Client
from central.storage.catalogue import find_project, issue_login, redeem_login, revoke_key
from shared.quality import Reason, bad
from tests.servers.central_process import Central, running_central
from tests.servers.link_peer import now_us
from tests.servers.postgres import Database
from tests.servers.seed import seed
from tests.servers.watcher import frame, refusal, watching

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration


async def test_a_snapshot_then_deltas_in_sequence(central: Central) -> None:
    at = now_us()
    await seed(central, {"a/x": [(at, 1.0, 0)], "b/x": [(at, 5.0, 0)]})
    async with watching(central) as socket:
        first = await frame(socket)
        assert (first["type"], first["sequence"]) == ("snapshot", 0)
        assert {each["key"]: each["value"] for each in first["readings"]} == {
            "a/x": 1.0,
            "b/x": 5.0,
        }
        await seed(central, {"a/x": [(at + 1, 2.0, 0)]})
        second = await frame(socket)
        assert (second["type"], second["sequence"]) == ("delta", 1)
        assert [(each["key"], each["value"]) for each in second["readings"]] == [("a/x", 2.0)]
        await seed(central, {"c/x": [(at, float("nan"), bad(Reason.TIMEOUT))]})
        third = await frame(socket)
        assert third["sequence"] == 2
        assert third["readings"][0]["quality"]["reason"] == "timeout"
        assert third["readings"][0]["value"] is None


async def test_an_older_reading_that_comes_late_is_no_news(central: Central) -> None:
    at = now_us()
    await seed(central, {"a/x": [(at, 1.0, 0)]})
    async with watching(central) as socket:
        await frame(socket)
        await seed(central, {"a/x": [(at - 1_000_000, 9.0, 0)]})
        await seed(central, {"a/x": [(at + 1, 2.0, 0)]})
        told = await frame(socket)
        assert [each["value"] for each in told["readings"]] == [2.0]


async def test_only_selected_points_are_sent(central: Central) -> None:
    at = now_us()
    await seed(central, {"a/x": [(at, 1.0, 0)], "b/x": [(at, 5.0, 0)], "b/y": [(at, 6.0, 0)]})
    async with watching(central, "?prefix=b/") as prefixed, watching(central, "?key=b/y") as keyed:
        assert [each["key"] for each in (await frame(prefixed))["readings"]] == ["b/x", "b/y"]
        assert [each["key"] for each in (await frame(keyed))["readings"]] == ["b/y"]
        await seed(central, {"a/x": [(at + 1, 2.0, 0)]})
        await seed(central, {"b/y": [(at + 1, 7.0, 0)]})
        assert [each["key"] for each in (await frame(prefixed))["readings"]] == ["b/y"]
        assert [each["value"] for each in (await frame(keyed))["readings"]] == [7.0]


async def test_a_client_that_lags_is_told_how_many_deltas_it_missed() -> None:
    client = Client(2)
    for value in range(5):
        client.offer([{"key": "a/x", "value": value}])
    delta, dropped = await client.next()
    assert (delta[0]["value"], dropped) == (4, 4)
    client.offer([{"key": "a/x", "value": 9}])
    delta, dropped = await client.next()
    assert (delta[0]["value"], dropped) == (9, 0)


async def test_without_a_key_nobody_watches(central: Central) -> None:
    assert await refusal(central, additional_headers={}) == (401, "not_signed_in")


async def test_a_page_of_another_site_is_refused(central: Central) -> None:
    key = {"Authorization": f"Bearer {await central.key()}"}
    told = await refusal(central, additional_headers=key, origin="https://evil.example")
    assert told == (403, "foreign_origin")


async def test_a_session_cookie_of_the_own_page_watches(central: Central) -> None:
    project = await find_project(central.database.service, "demo")
    assert project is not None
    token = await issue_login(central.database.service, project.project_id)
    session = await redeem_login(central.database.service, token)
    cookie = {"Cookie": f"spine_session={session}"}
    async with watching(central, additional_headers=cookie, origin=central.url) as socket:
        assert (await frame(socket))["type"] == "snapshot"


async def test_a_revoked_key_ends_the_connection_within_seconds(central: Central) -> None:
    project = await find_project(central.database.service, "demo")
    assert project is not None
    async with watching(central) as socket:
        await frame(socket)
        await revoke_key(central.database.service, project.project_id, "test")
        async with asyncio.timeout(5):
            await socket.wait_closed()
        assert socket.close_code == 4401


async def test_too_many_clients_are_refused(database: Database, tmp_path: Any) -> None:
    async with (
        running_central(database, tmp_path, live_clients=1) as central,
        watching(central) as socket,
    ):
        await frame(socket)
        assert await refusal(central) == (429, "too_many_live")


async def test_clients_are_let_go_at_a_stop(database: Database, tmp_path: Any) -> None:
    async with running_central(database, tmp_path) as central, watching(central) as socket:
        await frame(socket)
        stopping = asyncio.create_task(socket.wait_closed())
        assert not stopping.done()
    await stopping
