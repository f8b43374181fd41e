"""The technician's tools over the local API: looks, jobs, commands, check-outs, logs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.commands import CollectorWay, Times, opened_commands
from shared.clock import SystemClock
from tests.integration.api_kit import API, ServedGateway, code_of, served
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.twin_kit import until
from tests.servers.modbus import HOST, RegisterServer
from tests.servers.opcua import OpcuaServer
from tests.servers.ports import ports_in_a_row

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

KEY = "room/setpoint"


def document(port: int) -> dict[str, Any]:
    write = {"min": 0, "max": 40, "release_value": 18, "min_interval_s": 0}
    point = {"key": KEY, "unit": "°C", "source": {"register": 10, "scale": 0.1}, "write": write}
    options = {"host": HOST, "port": port}
    device = {"name": "room", "driver": "modbus", "interval_s": 0.2, "options": options}
    return {"devices": [{**device, "points": [point]}]}


@pytest.fixture
async def server() -> AsyncIterator[RegisterServer]:
    async with RegisterServer() as found:
        found.put("holding", 10, [205])
        yield found


@pytest.fixture
async def gateway(server: RegisterServer, tmp_path: Path) -> AsyncIterator[ServedGateway]:
    async with served(tmp_path, document(server.port)) as found, commanded(found):
        await until(lambda: found.parts.collector.live.value("room", KEY) is not None)
        yield found


@asynccontextmanager
async def commanded(gateway: ServedGateway) -> AsyncIterator[None]:
    way = CollectorWay(gateway.parts.collector)
    times = Times(SystemClock(), lambda: True)
    async with opened_commands(gateway.folder, way, times) as commander:
        assert commander is not None
        gateway.parts.commands = commander
        running = asyncio.create_task(commander.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait({running})


async def test_the_connection_test_says_each_step_and_each_value(gateway: ServedGateway) -> None:
    told = (await gateway.technician.post(f"{API}/looks/test", json={"device": "room"})).json()
    assert told["good"]
    assert [one["step"] for one in told["steps"]] == ["network", "session", "identity", "read"]
    assert told["values"][0]["reading"]["value"] == 20.5


async def test_a_failed_step_says_what_to_try(gateway: ServedGateway) -> None:
    options = {"host": HOST, "port": ports_in_a_row(1)}
    given = {"driver": "modbus", "options": options}
    told = (await gateway.technician.post(f"{API}/looks/test", json=given)).json()
    assert not told["good"]
    assert told["steps"][0]["outcome"] == "failed"
    assert told["steps"][0]["trouble"]["remedy"]
    assert [one["outcome"] for one in told["steps"][1:]] == ["skipped"] * 3


async def test_points_are_read_before_they_are_saved(gateway: ServedGateway) -> None:
    points = [{"key": "a", "source": {"register": 10}}, {"key": "b", "source": {"register": 11}}]
    given = {"device": "room", "points": points}
    told = (await gateway.technician.post(f"{API}/looks/read", json=given)).json()
    assert [one["reading"]["value"] for one in told["values"]] == [205.0, 0.0]
    wrong = {"device": "room", "points": [{"key": "a", "source": {"register": -1}}]}
    refused = await gateway.technician.post(f"{API}/looks/read", json=wrong)
    assert code_of(refused) == "configuration_refused"
    assert "points[0].source.register" in refused.text


async def test_the_decode_matrix_reads_a_number_in_every_way(gateway: ServedGateway) -> None:
    given = {"device": "room", "number": 10}
    told = (await gateway.technician.post(f"{API}/looks/matrix", json=given)).json()
    assert any(one["value"] == 205 for one in told["candidates"])
    assert len({one["source"]["type"] for one in told["candidates"]}) >= 5


async def test_a_device_without_models_cannot_be_browsed_and_says_so(
    gateway: ServedGateway,
) -> None:
    begun = await gateway.technician.post(f"{API}/browse", json={"device": "room"})
    assert code_of(begun) == "device_refused"
    assert "SunSpec" in begun.text
    gone = await gateway.technician.post(f"{API}/browse/none", json={})
    assert code_of(gone) == "not_found"


async def test_a_server_is_browsed_folder_by_folder_in_a_session(gateway: ServedGateway) -> None:
    opcua = OpcuaServer()
    await opcua.start()
    try:
        await walked(gateway, opcua)
    finally:
        await opcua.close()


async def walked(gateway: ServedGateway, opcua: OpcuaServer) -> None:
    client = gateway.technician
    given = {"driver": "opcua", "options": {"url": opcua.url}}
    begun = await client.post(f"{API}/browse", json=given)
    assert begun.status_code == 201, begun.text
    page = begun.json()
    session = page["session"]
    folder = next(one for one in page["nodes"] if one["name"] == "Server")
    deeper = await client.post(f"{API}/browse/{session}", json={"parent": folder["id"]})
    assert deeper.json()["nodes"]
    wrong = await client.post(f"{API}/browse/{session}", json={"parent": "nonsense"})
    assert code_of(wrong) == "options_wrong"
    assert opcua.connections == 1
    assert (await client.delete(f"{API}/browse/{session}")).status_code == 204
    await until(lambda: opcua.connections == 0)
    gone = await client.post(f"{API}/browse/{session}", json={})
    assert code_of(gone) == "not_found"


async def test_a_search_is_a_job_that_can_be_cancelled(
    gateway: ServedGateway, server: RegisterServer
) -> None:
    client = gateway.technician
    strange = await client.post(f"{API}/searches", json={"driver": "modbus", "options": {"x": 1}})
    assert code_of(strange) == "configuration_refused"
    options = {"hosts": [HOST], "port": server.port, "first_unit": 1, "last_unit": 2}
    begun = await client.post(f"{API}/searches", json={"driver": "modbus", "options": options})
    number = begun.json()["number"]
    job = begun.json()
    while job["state"] == "running":
        job = (await client.get(f"{API}/jobs/{number}", params={"wait_s": 5})).json()
    assert (job["state"], job["progress"]) == ("done", 1.0)
    assert job["results"][0]["known_as"] == "room"
    options["last_unit"] = 247
    begun = await client.post(f"{API}/searches", json={"driver": "modbus", "options": options})
    busy = await client.post(f"{API}/searches", json={"driver": "modbus", "options": options})
    assert code_of(busy) == "too_many"
    told = (await client.delete(f"{API}/jobs/{begun.json()['number']}")).json()
    assert told["state"] == "cancelled"
    assert code_of(await client.get(f"{API}/jobs/999")) == "not_found"


async def test_a_write_is_made_once_and_given_back(
    gateway: ServedGateway, server: RegisterServer
) -> None:
    client = gateway.technician
    given = {"point": KEY, "value": 21.5, "actor": "Ada", "lease_s": 600, "id": "ab" * 16}
    made = (await client.post(f"{API}/commands", json=given)).json()
    assert (made["state"], server.tables["holding"][10]) == ("done", 215)
    again = (await client.post(f"{API}/commands", json=given)).json()
    assert again["number"] == made["number"]
    other = await client.post(f"{API}/commands", json={**given, "value": 3})
    assert code_of(other) == "id_taken"
    held = (await client.get(f"{API}/commands/holds")).json()["holds"]
    assert [(one["point"], one["actor"]) for one in held] == [(KEY, "Ada")]
    await client.post(f"{API}/commands/release", json={"point": KEY, "actor": "Ada"})
    assert server.tables["holding"][10] == 180
    told = (await client.get(f"{API}/commands")).json()["commands"]
    assert len(told) == 2
    assert (await client.get(f"{API}/commands/audit")).json()["entries"]
    assert (await client.get(f"{API}/commands/{'ab' * 16}")).json()["state"] == "done"
    unknown = await client.get(f"{API}/commands/{'00' * 16}")
    assert code_of(unknown) == "command_wrong"


async def test_a_value_outside_its_limits_is_refused(gateway: ServedGateway) -> None:
    given = {"point": KEY, "value": 99, "actor": "Ada"}
    made = (await gateway.technician.post(f"{API}/commands", json=given)).json()
    assert made["state"] == "refused"
    assert "40" in made["detail"]


async def test_a_check_out_is_recorded_printed_and_exported(gateway: ServedGateway) -> None:
    client = gateway.technician
    begun = await client.post(f"{API}/checkouts", json={"title": "<b>Room</b>", "by": "Ada"})
    number = begun.json()["number"]
    finding = {"by": "Ada", "expected": 20.4}
    made = await client.post(f"{API}/checkouts/{number}/records/{KEY}", json=finding)
    assert made.json()["verdict"] == "pass"
    told = (await client.get(f"{API}/checkouts/{number}")).json()
    assert told["progress"]["passed"] == 1
    page = await client.get(f"{API}/checkouts/{number}/checkout.html")
    assert "&lt;b&gt;Room" in page.text
    assert "<b>Room" not in page.text
    assert "style-src" in page.headers["content-security-policy"]
    table = await client.get(f"{API}/checkouts/{number}/checkout.csv")
    assert KEY in table.text
    await client.post(f"{API}/checkouts/{number}/close")
    late = await client.post(f"{API}/checkouts/{number}/records/{KEY}", json=finding)
    assert code_of(late) == "checkout_closed"
    assert code_of(await client.get(f"{API}/checkouts/999")) == "checkout_unknown"


async def test_logs_are_told_from_a_cursor_on_and_hide_what_is_sealed(
    gateway: ServedGateway,
) -> None:
    client = gateway.technician
    canary = "correct-horse-battery"
    await client.put(f"{API}/secrets/plant", json={"value": canary})
    section = {one: two for one, two in document(1)["devices"][0].items() if one != "name"}
    etag = (await client.get(f"{API}/configuration")).headers["etag"]
    await client.put(f"{API}/devices/other", json=section, headers={"If-Match": etag})
    ring = gateway.parts.logs
    ring.note(None, "info", {"event": f"login with {canary}", "level": "info"})
    told = (await client.get(f"{API}/logs", params={"cursor": 0})).json()
    assert any("login with" in one["text"] for one in told["entries"])
    assert canary not in str(told)
    later = (await client.get(f"{API}/logs", params={"cursor": told["cursor"]})).json()
    assert later["entries"] == []
