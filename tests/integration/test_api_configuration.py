"""The local API changes the configuration: each change names its revision and is whole."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from tests.integration.api_kit import API, ServedGateway, code_of, served
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.twin_kit import Works, device, document, works

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)
__all__ = ["works"]


@pytest.fixture
async def gateway(works: Works, tmp_path: Path) -> AsyncIterator[ServedGateway]:
    async with served(tmp_path, document(device("a"), device("b"))) as found:
        yield found


async def at(client: httpx2.AsyncClient) -> dict[str, str]:
    """Give the header that names the revision in force."""
    return {"If-Match": (await client.get(f"{API}/configuration")).headers["etag"]}


async def test_a_change_needs_the_revision_it_is_made_for(gateway: ServedGateway) -> None:
    client = gateway.technician
    told = (await client.get(f"{API}/configuration")).json()
    body = {"document": told["document"] | {"devices": told["document"]["devices"][:1]}}
    assert code_of(await client.put(f"{API}/configuration", json=body)) == "revision_needed"
    headers = await at(client)
    made = await client.put(f"{API}/configuration", json=body, headers=headers)
    assert made.json()["source"] == "api"
    assert made.headers["etag"] != headers["If-Match"]
    late = await client.put(f"{API}/configuration", json=body, headers=headers)
    assert code_of(late) == "revision_moved"
    undone = await client.post(f"{API}/configuration/undo", headers=await at(client))
    assert undone.status_code == 200
    again = (await client.get(f"{API}/configuration")).json()
    assert again["document"] == told["document"]
    listed = (await client.get(f"{API}/configuration/revisions")).json()["revisions"]
    assert [one["number"] for one in listed] == [3, 2, 1]
    second = (await client.get(f"{API}/configuration/revisions/2")).json()
    assert len(second["document"]["devices"]) == 1


async def test_a_guess_at_the_next_revision_undoes_no_change_that_is_under_way(
    gateway: ServedGateway, works: Works
) -> None:
    client, twin = gateway.technician, gateway.parts.twin
    first = {**device("c"), "reason": "first"}
    del first["name"]
    headers = {"If-Match": f'"{twin.current.number}"'}
    guess = {"If-Match": f'"{twin.current.number + 1}"'}
    answers = await asyncio.gather(
        client.put(f"{API}/devices/c", json=first, headers=headers),
        client.put(f"{API}/policies", json={"policies": {}}, headers=guess),
    )
    assert [one.status_code for one in answers] == [200, 412]
    assert [one.name for one in twin.devices] == ["a", "b", "c"]


@pytest.mark.parametrize("cursor", ["LTU=", "MS41", "x", "ä"])
async def test_a_cursor_of_another_list_is_refused(gateway: ServedGateway, cursor: str) -> None:
    answer = await gateway.technician.get(f"{API}/points", params={"cursor": cursor})
    assert code_of(answer) == "bad_request"


async def test_a_wrong_document_changes_nothing_and_every_place_is_named(
    gateway: ServedGateway,
) -> None:
    client = gateway.technician
    before = (await client.get(f"{API}/configuration")).json()
    wrong = {"document": {"devices": [{**device("a"), "interval_s": -1, "points": []}]}}
    checked = (await client.post(f"{API}/configuration/check", json=wrong)).json()
    assert not checked["good"]
    refused = await client.put(f"{API}/configuration", json=wrong, headers=await at(client))
    assert code_of(refused) == "configuration_refused"
    places = {one["place"] for one in refused.json()["fields"]}
    assert {"devices[0].interval_s", "devices[0].points"} <= places
    assert (await client.get(f"{API}/configuration")).json() == before


async def test_devices_are_added_changed_and_removed(gateway: ServedGateway) -> None:
    client = gateway.technician
    section = {name: one for name, one in device("c").items() if name != "name"}
    made = await client.put(f"{API}/devices/c", json=section, headers=await at(client))
    assert made.status_code == 200, made.text
    listed = (await client.get(f"{API}/devices")).json()["devices"]
    assert [one["name"] for one in listed] == ["a", "b", "c"]
    told = (await client.get(f"{API}/devices/c")).json()
    assert told["section"]["points"] == device("c")["points"]
    removed = await client.delete(f"{API}/devices/c", headers=await at(client))
    assert removed.json()["reason"] == "device c removed"
    assert code_of(await client.get(f"{API}/devices/c")) == "not_found"


async def test_points_are_listed_by_pages_and_changed_one_by_one(gateway: ServedGateway) -> None:
    client = gateway.technician
    page = (await client.get(f"{API}/points", params={"limit": 1})).json()
    rest = (await client.get(f"{API}/points", params={"cursor": page["cursor"]})).json()
    keys = [one["key"] for one in page["points"] + rest["points"]]
    assert page["total"] == len(keys) == len(set(keys))
    first = page["points"][0]
    point = {**first["point"], "unit": "K"}
    body = {"device": first["device"], "point": point}
    made = await client.put(f"{API}/points/{first['key']}", json=body, headers=await at(client))
    assert made.status_code == 200, made.text
    assert (await client.get(f"{API}/points/{first['key']}")).json()["point"]["unit"] == "K"
    other = {**body, "device": "b"}
    taken = await client.put(f"{API}/points/{first['key']}", json=other, headers=await at(client))
    assert code_of(taken) == "name_taken"


async def test_an_import_is_compared_first_and_then_exactly_that_is_done(
    gateway: ServedGateway,
) -> None:
    client = gateway.technician
    exported = await client.get(f"{API}/points.csv")
    lines = exported.content.decode("utf-8-sig").splitlines()
    changed = "\r\n".join([lines[0], lines[1].replace(";", ";", 1), *lines[2:], "x;bad key;;;;"])
    run = (await client.post(f"{API}/imports", content=changed.encode())).json()
    assert run["counts"]["invalid"] == 1
    assert run["invalid"][0]["reasons"]
    refused = await client.post(f"{API}/imports/{run['id']}/apply", json={})
    assert code_of(refused) == "rows_invalid"
    done = await client.post(f"{API}/imports/{run['id']}/apply", json={"skip_invalid": True})
    assert done.status_code == 200, done.text
    gone = await client.post(f"{API}/imports/{run['id']}/apply", json={})
    assert code_of(gone) == "not_found"


async def test_a_dry_run_of_an_older_revision_is_not_applied(gateway: ServedGateway) -> None:
    client = gateway.technician
    exported = await client.get(f"{API}/points.xlsx")
    run = (await client.post(f"{API}/imports", content=exported.content)).json()
    await client.delete(f"{API}/devices/b", headers=await at(client))
    late = await client.post(f"{API}/imports/{run['id']}/apply", json={})
    assert code_of(late) == "revision_moved"


async def test_what_is_no_table_is_refused_with_what_to_do(gateway: ServedGateway) -> None:
    refused = await gateway.technician.post(f"{API}/imports", content=b"\x00\x01")
    assert code_of(refused) == "sheet_wrong"


async def test_live_values_come_as_a_snapshot_and_then_as_they_change(
    gateway: ServedGateway,
) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in gateway.technician.cookies.items())
    url = gateway.url.replace("http", "ws", 1) + f"{API}/live?device=a"
    async with connect(url, additional_headers={"Cookie": cookie}) as socket:
        async with asyncio.timeout(30):
            snapshot = json.loads(await socket.recv())
            assert snapshot["type"] == "snapshot"
            message: dict[str, Any] = {"values": []}
            while not message["values"]:
                message = json.loads(await socket.recv())
        assert message["type"] == "changes"
        assert {one["device"] for one in message["values"]} == {"a"}
        assert message["values"][0]["quality_text"]


async def test_what_a_watcher_says_means_nothing(gateway: ServedGateway) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in gateway.technician.cookies.items())
    url = gateway.url.replace("http", "ws", 1) + f"{API}/live"
    async with connect(url, additional_headers={"Cookie": cookie}) as socket:
        await socket.send("hello")
        await socket.send(b"\xff\x00")
        await (await socket.ping())
        async with asyncio.timeout(30):
            kinds = [json.loads(await socket.recv())["type"] for _ in range(3)]
    assert kinds == ["snapshot", "changes", "changes"]


async def test_a_session_that_ends_ends_its_live_values(
    gateway: ServedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.api.live.LOOK_S", 0.1)
    async with gateway.signed_in() as client:
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        url = gateway.url.replace("http", "ws", 1) + f"{API}/live"
        async with connect(url, additional_headers={"Cookie": cookie}) as socket:
            await client.delete(f"{API}/session")
            async with asyncio.timeout(30):
                await socket.wait_closed()
            assert socket.close_code == 4401


async def test_a_secret_is_named_and_never_shown(gateway: ServedGateway) -> None:
    client = gateway.technician
    canary = "correct-horse-battery"
    kept = await client.put(f"{API}/secrets/plant/meter", json={"value": canary})
    assert kept.status_code == 204
    answer = await client.get(f"{API}/secrets")
    assert answer.json() == {"secrets": ["plant/meter"]}
    paths = ("configuration", "gateway", "devices", "points")
    told = [(await client.get(f"{API}/{path}")).text for path in paths]
    assert not any(canary in one for one in told)


async def test_a_backup_is_sealed_and_names_a_short_pass_phrase(gateway: ServedGateway) -> None:
    client = gateway.technician
    short = await client.post(f"{API}/backup", json={"passphrase": "x"})
    assert code_of(short) == "backup_refused"
    made = await client.post(f"{API}/backup", json={"passphrase": "correct horse battery"})
    assert made.status_code == 200
    assert b"devices" not in made.content


async def test_certificates_tell_who_trusts_whom(gateway: ServedGateway) -> None:
    told = (await gateway.technician.get(f"{API}/certificates")).json()
    assert "CN=gw1" in told["identity"]["subject"]
    assert len(told["identity"]["sha256"]) == 64
    assert len(told["roots"]) == 1


async def test_a_template_makes_a_device_that_can_be_put(gateway: ServedGateway) -> None:
    client = gateway.technician
    listed = (await client.get(f"{API}/templates")).json()["templates"]
    assert len(listed) >= 12
    given = {"name": "meter", "options": {"host": "127.0.0.1", "port": 1}}
    made = await client.post(f"{API}/templates/eastron_sdm120/device", json=given)
    section = made.json()["section"]
    name = section.pop("name")
    put = await client.put(f"{API}/devices/{name}", json=section, headers=await at(client))
    assert put.status_code == 200, put.text


async def test_a_driver_is_described_by_schemas(gateway: ServedGateway) -> None:
    client = gateway.technician
    assert "modbus" in (await client.get(f"{API}/drivers")).json()["drivers"]
    told = (await client.get(f"{API}/drivers/modbus")).json()
    assert "host" in told["options"]["properties"]
    assert code_of(await client.get(f"{API}/drivers/none")) == "not_found"
