"""Page and API at one origin when application and egress are two processes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread
import httpx2
import pytest

from central import admin
from central.access import declared
from central.application import relay, upstream
from central.modules import MODULES
from central.process import running
from central.storage.catalogue import find_project, issue_login, revoke_key
from shared.metrics import new_registry
from tests.integration.test_application_schema import GUARDED, ask_everything
from tests.servers.central_process import Central, settings_for, until
from tests.servers.link_peer import now_us
from tests.servers.postgres import Database
from tests.servers.seed import seed
from tests.servers.watcher import DEADLINE_S, frame, refusal, watching

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Two:
    """An egress (with storage) that can be stopped, and an application before it."""

    database: Database
    folder: Path
    front: Central
    back: Central | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start_egress(self) -> Central:
        port = int(str(self.front.settings.egress_url).rpartition(":")[2])
        settings = settings_for(self.database, self.folder, port=port)
        process = await self._stack.enter_async_context(running(settings, ["storage", "egress"]))
        self.back = Central(settings, process, self.database, self.folder)
        return self.back

    async def stop_egress(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def fronted(database: Database, folder: Path, egress_url: str) -> AsyncIterator[Central]:
    """Run an application alone that forwards to a place."""
    settings = settings_for(database, folder, egress_url=egress_url, query_timeout_s=10)
    await admin.setup(settings, "demo", "main")
    async with running(settings, ["application"]) as process:
        yield Central(settings, process, database, folder)


@pytest.fixture
async def two(database: Database, tmp_path: Path, unused_port: int) -> AsyncIterator[Two]:
    async with fronted(database, tmp_path, f"http://127.0.0.1:{unused_port}") as front:
        both = Two(database, tmp_path, front)
        await both.start_egress()
        yield both
        await both.stop_egress()


@pytest.fixture
def unused_port() -> int:
    import socket  # noqa: PLC0415  # used here alone

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def of(two: Two) -> Central:
    assert two.back is not None
    return two.back


async def test_a_person_signs_in_and_sees_values_at_one_origin(two: Two) -> None:
    await seed(of(two), {"a/x": [(now_us(), 1.5, 0)]})
    project = await find_project(two.database.service, "demo")
    assert project is not None
    token = await issue_login(two.database.service, project.project_id)
    async with httpx2.AsyncClient(base_url=two.front.url, follow_redirects=True) as client:
        page = await client.get(f"/login?token={token}")
        assert "<title>SPINE</title>" in page.text
        latest = await client.get("/api/v1/projects/demo/latest?key=a/x")
        direct = await client.get(f"{of(two).url}/api/v1/projects/demo/latest?key=a/x")
        cookie = {"Cookie": f"spine_session={client.cookies['spine_session']}"}
    assert [each["value"] for each in latest.json()["readings"]] == [1.5]
    for name in ("content-type", "x-frame-options", "content-security-policy"):
        assert latest.headers.get_list(name) == direct.headers.get_list(name)
    assert len(latest.headers.get_list("date")) == 1
    async with watching(two.front, additional_headers=cookie, origin=two.front.url) as socket:
        assert (await frame(socket))["type"] == "snapshot"


async def test_live_values_come_through_and_so_does_the_reason_of_an_end(two: Two) -> None:
    at = now_us()
    await seed(of(two), {"a/x": [(at, 1.0, 0)]})
    async with watching(two.front) as socket:
        assert [each["value"] for each in (await frame(socket))["readings"]] == [1.0]
        await seed(of(two), {"a/x": [(at + 1, 2.0, 0)]})
        assert [each["value"] for each in (await frame(socket))["readings"]] == [2.0]
        project = await find_project(two.database.service, "demo")
        assert project is not None
        await revoke_key(two.database.service, project.project_id, "test")
        async with asyncio.timeout(DEADLINE_S):
            await socket.wait_closed()
        assert socket.close_code == 4401


async def test_refusals_are_those_of_the_front_or_of_egress_in_its_words(two: Two) -> None:
    url = f"{two.front.url}/api/v1/projects/demo/latest"
    async with two.front.client() as client:
        wrong = await client.get("/latest?keys=a")
        assert (wrong.status_code, wrong.json()["code"]) == (422, "unknown_parameter")
        lost = await client.get("/nothing")
        assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
        changed = await client.post("/latest")
        assert (changed.status_code, changed.headers["allow"]) == (405, "GET")
        assert (await client.get(f"{two.front.url}/api/v1/session")).status_code == 200
        other = await client.get(f"{two.front.url}/api/v1/projects/other/latest")
        assert (other.status_code, other.json()["code"]) == (403, "other_project")
        huge = await client.request("GET", "/latest", content=b"x" * 70_000)
        assert (huge.status_code, huge.json()["code"]) == (413, "too_large")
    async with httpx2.AsyncClient() as client:
        assert (await client.get(url)).status_code == 401
        assert (await client.get(url, headers={"Host": "evil.example"})).status_code == 421
        wrong = await client.get(url, headers={"Host": "localhost:1/x@evil.example"})
        assert wrong.status_code in {400, 401}
    assert await refusal(two.front, additional_headers={}) == (401, "not_signed_in")
    key = {"Authorization": f"Bearer {await two.front.key()}"}
    told = await refusal(two.front, additional_headers=key, origin="https://evil.example")
    assert told == (403, "foreign_origin")


async def test_what_egress_refuses_a_live_client_is_refused_in_its_words(two: Two) -> None:
    key = {"Authorization": f"Bearer {await two.front.key()}"}
    told = await refusal(two.front, project="other", additional_headers=key)
    assert told == (403, "other_project")
    assert told == await refusal(of(two), project="other", additional_headers=key)


async def raw_answer(front: Central, path: str, *more: str) -> bytes:
    """Ask in bytes as a client would that does not keep to the rules."""
    reader, writer = await asyncio.open_connection("127.0.0.1", front.running.ports["human"])
    key = f"Authorization: Bearer {await front.key()}"
    lines = (f"GET {path} HTTP/1.1", "Host: localhost", key, *more, "Connection: close", "", "")
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(DEADLINE_S):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_request_for_two_hosts_is_refused_and_is_no_outage_of_egress(two: Two) -> None:
    answer = await raw_answer(two.front, "/api/v1/projects/demo/latest", "Host: evil.example")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"wrong_host" in answer
    async with two.front.client() as client:
        metrics = (await client.get(f"{two.front.url}/metrics")).text
    assert 'outcome="away"' not in metrics


@pytest.mark.parametrize("path", ["/api/v1/../../metrics", "/api/v1/%2e%2e/%2E%2e/metrics"])
async def test_no_path_leads_out_of_the_api(two: Two, path: str) -> None:
    assert (await raw_answer(two.front, path)).startswith(b"HTTP/1.1 404 ")


async def test_egress_that_stops_is_told_and_found_again(two: Two) -> None:
    key = {"Authorization": f"Bearer {await two.front.key()}"}
    url = f"{two.front.url}/api/v1/projects/demo/latest"
    async with httpx2.AsyncClient(headers=key) as client:
        assert (await client.get(url)).status_code == 200
        async with watching(two.front, additional_headers=key) as socket:
            await frame(socket)
            await two.stop_egress()
            async with asyncio.timeout(DEADLINE_S):
                await socket.wait_closed()
            assert socket.close_code in {1012, 1013}
        answer = await client.get(url)
        assert (answer.status_code, answer.json()["code"]) == (502, "egress_away")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "2"
        assert await refusal(two.front, additional_headers=key) == (502, "egress_away")
        ready = await client.get(f"{two.front.url}/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"]["egress"]["ready"] is False
        assert ready.json()["dependencies"]["database"]["ready"] is True
        for path in ("/healthz", "/", "/api/v1/session"):
            assert (await client.get(two.front.url + path)).status_code == 200

        await two.start_egress()

        async def is_back() -> bool:
            return (await client.get(url)).status_code == 200

        await until(is_back, "egress is found again", DEADLINE_S)
        assert (await client.get(f"{two.front.url}/readyz")).status_code == 200
        metrics = (await client.get(f"{two.front.url}/metrics")).text
        assert 'spine_application_forwarded_total{outcome="away"}' in metrics
        async with watching(two.front, additional_headers=key) as socket:
            assert (await frame(socket))["type"] == "snapshot"


async def test_the_whole_api_is_described_and_no_input_breaks_it(two: Two) -> None:
    await seed(of(two), {"a/x": [(now_us(), 1.0, 0)], "0": [(now_us(), 2.0, 0)]})
    async with httpx2.AsyncClient(base_url=two.front.url) as client:
        schema = (await client.get("/api/openapi.json")).json()
    assert {"/login", "/api/v1/session", "/api/v1/projects/{project}/history"} <= set(
        schema["paths"]
    )
    assert set(schema["components"]["securitySchemes"]) == {"key", "session"}
    count = await anyio.to_thread.run_sync(ask_everything, two.front.url, await two.front.key())
    assert count >= GUARDED


async def test_every_route_still_declares_a_policy(two: Two) -> None:
    platform = two.front.running.platform
    registry = new_registry()
    changed = type(platform)(
        **{name: getattr(platform, name) for name in platform.__slots__} | {"registry": registry}
    )
    routes = [
        route for router in MODULES["application"](changed).routers for route in declared(router)
    ]
    handed_on = [route for route in routes if "{rest" in route.path]
    assert len(handed_on) == 2
    assert {route.policy for route in handed_on} == {"session_holder"}
    assert all(route.policy is not None for route in routes)


@asynccontextmanager
async def misbehaving(serve: Serve) -> AsyncIterator[str]:
    """Serve raw bytes as an egress that does not behave."""
    started = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for task in started:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in started if task), return_exceptions=True)
        server.close()


async def say_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def say_garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
    await writer.drain()


async def announce_too_much(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    await asyncio.Event().wait()


async def never_end(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        await writer.drain()


async def stop_in_the_middle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await asyncio.Event().wait()


async def redirect(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    )
    await writer.drain()


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "BEYOND_QUERY_S", -9.5)
    monkeypatch.setattr(upstream, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(relay, "OPEN_S", 0.5)


@pytest.mark.parametrize(
    ("serve", "wanted"),
    [
        (say_nothing, (504, "egress_slow")),
        (say_garbage, (502, "egress_away")),
        (announce_too_much, (502, "egress_away")),
    ],
)
async def test_an_egress_that_misbehaves_becomes_a_problem(
    serve: Serve, wanted: tuple[int, str], database: Database, tmp_path: Path, short_limits: None
) -> None:
    async with misbehaving(serve) as url, fronted(database, tmp_path, url) as front:
        async with front.client() as client:
            answer = await client.get("/latest", timeout=DEADLINE_S)
            assert (answer.status_code, answer.json()["code"]) == wanted
            assert (await client.get(f"{front.url}/healthz")).status_code == 200
        if serve is not announce_too_much:
            assert await refusal(front) == wanted


async def bytes_until_broken(client: httpx2.AsyncClient) -> int:
    came = 0
    async with client.stream("GET", "/latest", timeout=DEADLINE_S) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):  # noqa: PT012  # the iteration raises
            async for chunk in answer.aiter_raw():
                came += len(chunk)
    return came


@pytest.mark.parametrize("serve", [never_end, stop_in_the_middle])
async def test_an_answer_that_does_not_end_is_seen_to_be_broken_off(
    serve: Serve, database: Database, tmp_path: Path, short_limits: None
) -> None:
    async with (
        misbehaving(serve) as url,
        fronted(database, tmp_path, url) as front,
        front.client() as client,
    ):
        came = await bytes_until_broken(client)
        assert came <= 1_000_000
        metrics = (await client.get(f"{front.url}/metrics")).text
        assert 'spine_application_forwarded_total{outcome="cut"} 1.0' in metrics


async def test_a_redirect_of_egress_is_not_followed(database: Database, tmp_path: Path) -> None:
    async with misbehaving(redirect) as url, fronted(database, tmp_path, url) as front:
        async with front.client() as client:
            assert (await client.get("/latest")).status_code == 302
        assert await refusal(front) == (502, "egress_away")


async def test_a_caller_that_goes_lets_go_of_egress(database: Database, tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def until_cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await never_end(_reader, writer)
        finally:
            gone.set()

    async with (
        misbehaving(until_cut) as url,
        fronted(database, tmp_path, url) as front,
        front.client() as client,
    ):
        async with client.stream("GET", "/latest") as answer:
            async for _ in answer.aiter_raw():
                break
        async with asyncio.timeout(DEADLINE_S):
            await gone.wait()
