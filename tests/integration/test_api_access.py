"""The door of the local API: links, passwords, sessions, and what never gets in."""

import asyncio
import re
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from fastapi import APIRouter

from edge.api import door as doors
from edge.api.access import Declared, declared, refuse_undeclared
from edge.api.app import ROUTERS, routes_of
from edge.api.door import FREE_TRIES
from edge.api.guard import COOKIE, MAX_BODY
from shared import pki
from tests.integration.api_kit import API, ServedGateway, code_of, served
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.twin_kit import Works, device, document, works

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)
__all__ = ["works"]


@pytest.fixture
async def gateway(works: Works, tmp_path: Path) -> AsyncIterator[ServedGateway]:
    async with served(tmp_path, document(device("a"))) as found:
        yield found


async def test_a_link_is_good_for_one_session(gateway: ServedGateway) -> None:
    token = (await gateway.local.post(f"{API}/links", json={})).json()["token"]
    async with httpx2.AsyncClient(base_url=gateway.url) as client:
        entered = await client.post(f"{API}/session/link", json={"token": token})
        assert (await client.get(f"{API}/gateway")).json()["name"] == "gw1"
        again = await client.post(f"{API}/session/link", json={"token": token})
        assert code_of(again) == "login_refused"
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token not in entered.text


async def test_a_link_is_over_after_a_quarter_of_an_hour(
    gateway: ServedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "LINK_S", 0.0)
    token = (await gateway.local.post(f"{API}/links", json={})).json()["token"]
    answer = await gateway.stranger.post(f"{API}/session/link", json={"token": token})
    assert code_of(answer) == "login_refused"


@pytest.mark.parametrize("limit", ["IDLE_S", "LONGEST_S"])
async def test_a_session_ends_when_it_is_not_used_and_at_last_anyway(
    gateway: ServedGateway, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    assert (await gateway.technician.get(f"{API}/session")).status_code == 200
    monkeypatch.setattr(doors, limit, 0.0)
    assert code_of(await gateway.technician.get(f"{API}/session")) == "not_signed_in"


async def test_there_is_no_password_until_one_is_set(gateway: ServedGateway) -> None:
    given = {"role": "technician", "password": "correct horse battery"}
    answer = await gateway.stranger.post(f"{API}/session/password", json=given)
    assert code_of(answer) == "login_refused"
    new = {"password": given["password"]}
    put = await gateway.technician.put(f"{API}/passwords/technician", json=new)
    assert put.status_code == 204
    assert code_of(await gateway.technician.get(f"{API}/session")) == "not_signed_in"
    answer = await gateway.stranger.post(f"{API}/session/password", json=given)
    assert answer.status_code == 200
    assert b"correct horse" not in (gateway.folder / "config.db").read_bytes()


async def test_who_guesses_passwords_waits_even_when_right_at_last(
    gateway: ServedGateway,
) -> None:
    await gateway.local.put(f"{API}/passwords/viewer", json={"password": "a good password"})

    async def tried(password: str) -> httpx2.Response:
        given = {"role": "viewer", "password": password}
        return await gateway.stranger.post(f"{API}/session/password", json=given)

    answers = await asyncio.gather(*(tried(f"guess {nth}") for nth in range(FREE_TRIES + 3)))
    codes = sorted(code_of(one) for one in answers)
    assert codes == ["login_refused"] * FREE_TRIES + ["too_many_tries"] * 3
    right = await tried("a good password")
    assert code_of(right) == "too_many_tries"
    assert int(right.headers["retry-after"]) >= 1


async def test_a_viewer_looks_and_changes_nothing(gateway: ServedGateway) -> None:
    async with gateway.signed_in("viewer") as viewer:
        assert (await viewer.get(f"{API}/gateway")).status_code == 200
        assert code_of(await viewer.get(f"{API}/sessions")) == "not_allowed"
        assert code_of(await viewer.delete(f"{API}/sessions/1")) == "not_allowed"


async def test_sessions_are_listed_ended_and_left(gateway: ServedGateway) -> None:
    async with gateway.signed_in() as other:
        told = (await gateway.technician.get(f"{API}/sessions")).json()["sessions"]
        assert [one["is_this"] for one in told] == [True, False]
        number = told[1]["number"]
        ended = await gateway.technician.delete(f"{API}/sessions/{number}")
        assert ended.status_code == 204
        assert code_of(await other.get(f"{API}/session")) == "not_signed_in"
    assert (await gateway.technician.delete(f"{API}/session")).status_code == 204
    assert code_of(await gateway.technician.get(f"{API}/session")) == "not_signed_in"


async def test_a_technician_cannot_make_links_from_afar(gateway: ServedGateway) -> None:
    assert code_of(await gateway.technician.post(f"{API}/links", json={})) == "local_only"


async def test_the_socket_of_the_command_line_is_the_owners_alone(gateway: ServedGateway) -> None:
    assert (gateway.folder / "api.sock").stat().st_mode & 0o777 == 0o600
    assert (await gateway.local.get(f"{API}/session")).json()["number"] == 0


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9180", "localhost.evil.example"])
async def test_a_foreign_host_name_is_not_served(gateway: ServedGateway, host: str) -> None:
    for path in ("/", f"{API}/gateway", f"{API}/openapi.json"):
        answer = await gateway.technician.get(path, headers={"Host": host})
        assert code_of(answer) == "unknown_host"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_of_another_site_changes_nothing(
    gateway: ServedGateway, headers: dict[str, str]
) -> None:
    answer = await gateway.technician.delete(f"{API}/session", headers=headers)
    assert code_of(answer) == "foreign_origin"
    assert (await gateway.technician.get(f"{API}/session")).status_code == 200


async def test_a_page_of_ours_may_change(gateway: ServedGateway) -> None:
    headers = {"Origin": gateway.url, "Sec-Fetch-Site": "same-origin"}
    answer = await gateway.technician.delete(f"{API}/session", headers=headers)
    assert answer.status_code == 204


async def test_every_route_refuses_who_is_not_signed_in_and_foreign_names_and_pages(
    gateway: ServedGateway,
) -> None:
    for route in routes_of(ROUTERS):
        await refuses_strangers(gateway.stranger, route)


async def refuses_strangers(client: httpx2.AsyncClient, route: Declared) -> None:
    path = re.sub(r"\{[^}]*\}", "1", route.path.replace("{role}", "viewer"))
    for method in route.methods - {"WEBSOCKET"}:
        answer = await client.request(method, path, headers={"Host": "evil.example"})
        assert code_of(answer) == "unknown_host"
        if method != "GET":
            answer = await client.request(method, path, headers={"Origin": "http://evil.example"})
            assert code_of(answer) == "foreign_origin"
        answer = await client.request(method, path)
        if route.policy != "open":
            assert code_of(answer) == "not_signed_in", route


def test_every_route_declares_who_may_call_it() -> None:
    assert [route for route in routes_of(ROUTERS) if route.policy is None] == []
    opened = {route.path for route in routes_of(ROUTERS) if route.policy == "open"}
    assert opened == {
        "/",
        f"{API}/openapi.json",
        f"{API}/session/link",
        f"{API}/session/password",
    }


def test_what_changes_something_is_not_for_viewers() -> None:
    changing = {
        route.path
        for route in routes_of(ROUTERS)
        if route.policy == "viewer" and not route.methods <= {"GET", "WEBSOCKET"}
    }
    asks = {f"{API}/configuration/check", f"{API}/templates/{{name}}/device"}
    assert changing == {f"{API}/session", *asks}


def test_a_route_without_a_policy_is_refused() -> None:
    router = APIRouter()
    router.get("/bare")(lambda: None)
    with pytest.raises(ValueError, match="/bare"):
        refuse_undeclared(declared(router))


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    gateway: ServedGateway,
) -> None:
    answer = await gateway.technician.post(f"{API}/session/link", content=b"x" * (MAX_BODY + 1))
    assert code_of(answer) == "too_large"

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 65_536 + 2):
            yield b" " * 65_536

    answer = await gateway.technician.post(f"{API}/session/link", content=parts())
    assert code_of(answer) == "too_large"


async def test_answers_tell_browsers_to_be_careful(gateway: ServedGateway) -> None:
    answer = await gateway.stranger.get("/")
    assert answer.headers["x-frame-options"] == "DENY"
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert "http" not in answer.text.replace("http-equiv", "")
    problem = await gateway.stranger.get(f"{API}/session")
    assert problem.headers["cache-control"] == "no-store"
    assert problem.headers["x-content-type-options"] == "nosniff"


async def test_beyond_loopback_there_is_tls_with_a_certificate_of_its_own(
    works: Works, tmp_path: Path
) -> None:
    async with served(tmp_path, document(), api={"host": "0.0.0.0"}) as gateway:
        assert gateway.url.startswith("https://")
        port = int(gateway.url.rpartition(":")[2])
        address = ("127.0.0.1", port)
        shown = await asyncio.to_thread(ssl.get_server_certificate, address, timeout=20)
        held = (gateway.folder / "api.pem").read_bytes()
        assert pki.is_locked(held)
        assert shown.strip().encode() in held
        token = (await gateway.local.post(f"{API}/links", json={})).json()["token"]
        url = f"https://127.0.0.1:{port}"
        entered = await gateway.stranger.post(f"{url}{API}/session/link", json={"token": token})
        assert f"{COOKIE}=" in entered.headers["set-cookie"]
        assert "secure" in entered.headers["set-cookie"].lower()
    again = tmp_path / "data" / "api.pem"
    async with served(tmp_path, document(), api={"host": "0.0.0.0"}):
        assert again.read_bytes() == held


async def test_the_command_line_prints_a_link_that_signs_in(
    gateway: ServedGateway, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "edge", "api", "link", "--config"]
    process = await asyncio.create_subprocess_exec(
        *command, str(tmp_path / "gateway.yaml"), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    token = told.decode().strip().partition("#link=")[2]
    entered = await gateway.stranger.post(f"{API}/session/link", json={"token": token})
    assert entered.json()["role"] == "technician"


async def test_strangers_that_send_half_a_request_keep_nobody_out_who_is_signed_in(
    gateway: ServedGateway,
) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    half = f"POST {API}/session/link HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n{{"
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
    try:
        for _, writer in opened:
            writer.write(half.encode())
            await writer.drain()
        async with asyncio.timeout(20):
            while (other := await gateway.stranger.get("/")).status_code == 200:
                pass
        assert code_of(other) == "busy"
        assert (await gateway.technician.get(f"{API}/gateway")).status_code == 200
    finally:
        for _, writer in opened:
            writer.close()
