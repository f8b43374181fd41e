"""Whatever a registry, or what stands in its place, answers: it is away, or it is an answer."""

import asyncio
import base64
import contextlib
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from central.messaging import RegistryAway, SchemaRefused, open_registry
from central.messaging.registry_client import ANSWER_BYTES, RegistryClient
from shared.errors import SettingsError
from shared.pki.authority import issue_server, make_root
from shared.pki.tls import server_context

Call = Callable[[RegistryClient], Awaitable[object]]
CALLS: dict[str, Call] = {
    "versions": lambda client: client.versions("spine.ReadingBatch"),
    "text_of": lambda client: client.text_of("spine.ReadingBatch", 1),
    "text_of_id": lambda client: client.text_of_id(1),
    "register": lambda client: client.register("spine.ReadingBatch", "{}"),
    "keep_compatible": lambda client: client.keep_compatible("spine.ReadingBatch"),
}


PROBLEM = "SPINE_REGISTRY: not a URL of the form http(s)://host:port/path"


def answer(status: str, content: str, headers: str = "") -> bytes:
    text = f"HTTP/1.1 {status}\r\nContent-Length: {len(content.encode())}\r\n{headers}\r\n{content}"
    return text.encode()


def told(status: str, body: object) -> bytes:
    return answer(status, json.dumps(body))


WRONG = {
    "a page instead": answer("200 OK", "<html>Welcome</html>", "Content-Type: text/html\r\n"),
    "nothing": answer("200 OK", ""),
    "another JSON": told("200 OK", {"status": "up"}),
    "a list of words": told("200 OK", ["one"]),
    "a word": told("200 OK", "one"),
    "null": told("200 OK", None),
    "a number that is none": told("200 OK", {"id": True, "schema": 5, "compatibilityLevel": []}),
    "a number too large": told("200 OK", {"id": 2**32}),
    "a number below nothing": told("200 OK", {"id": -1}),
    "brackets without end": answer("200 OK", "[" * 100_000),
    "a proxy's not found": answer("404 Not Found", "<html>nothing here</html>"),
    "another service's not found": told("404 Not Found", {"detail": "Not Found"}),
    "another error code": told("404 Not Found", {"error_code": 404, "message": "?"}),
    "no entry": told("401 Unauthorized", {"error_code": 401, "message": "who are you?"}),
    "forbidden": told("403 Forbidden", {"error_code": 403}),
    "too many": told("429 Too Many Requests", {"error_code": 429}),
    "its own trouble": told("500 Internal Server Error", {"error_code": 50001, "message": "disk"}),
    "no gateway": answer("502 Bad Gateway", "<html>bad gateway</html>"),
    "elsewhere": answer("302 Found", "", "Location: http://127.0.0.1:1/\r\n"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "half an answer": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id":',
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no answer": b"",
    "packed though not asked for": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    + gzip.compress(b'{"id": 1}'),
    "more than it says": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}{}{}",
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    "too much": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (ANSWER_BYTES + 1),
    "too much in pieces": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 17
    + b"0\r\n\r\n",
}


@asynccontextmanager
async def serving(
    content: bytes, *, ends: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer everything with the same bytes; `ends`: and then close."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(content)
            await writer.drain()
            if not ends:
                await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}/api", asked


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_no_answer_of_a_registry_means_that_it_is_away(call: str, wrong: str) -> None:
    async with serving(WRONG[wrong]) as (place, _), RegistryClient(f"http://{place}") as client:
        with pytest.raises(RegistryAway):
            await CALLS[call](client)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n[1"])
async def test_an_answer_that_does_not_come_or_end_is_given_up(begun: bytes) -> None:
    async with (
        serving(begun, ends=False) as (place, _),
        RegistryClient(f"http://{place}", limit_s=0.2) as client,
    ):
        with pytest.raises(RegistryAway, match=r"no answer in 0\.2 s"):
            await client.versions("any")


async def test_what_a_registry_does_not_know_is_an_answer() -> None:
    unknown = told("404 Not Found", {"error_code": 40403, "message": "Schema not found"})
    async with serving(unknown) as (place, _), RegistryClient(f"http://{place}") as client:
        assert await client.text_of_id(7) is None
        assert await client.versions("any") == []


@pytest.mark.parametrize("status", ["409 Conflict", "422 Unprocessable Entity"])
async def test_what_a_registry_refuses_is_told_in_its_words(status: str) -> None:
    refusal = told(status, {"error_code": int(status[:3]), "message": "value.b\n  is new"})
    async with serving(refusal) as (place, _), RegistryClient(f"http://{place}") as client:
        with pytest.raises(SchemaRefused, match=r"spine\.Any: value\.b is new"):
            await client.register("spine.Any", "{}")


async def test_names_cannot_lead_to_another_path() -> None:
    async with (
        serving(told("200 OK", [1])) as (place, asked),
        RegistryClient(f"http://{place}") as client,
    ):
        assert await client.versions("a/../b?c#d e") == [1]

    assert asked[0].startswith(b"GET /api/subjects/a%2F..%2Fb%3Fc%23d%20e/versions HTTP/1.1\r\n")


async def test_user_and_password_are_sent_and_never_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = "http://reader:p%40ss-w0rd@{}?key=s3cret"
    async with (
        serving(told("401 Unauthorized", {"message": "no"})) as (place, asked),
        open_registry(url.format(place)) as ids,
    ):
        with pytest.raises(RegistryAway) as away:
            await ids.check()
        with pytest.raises(RegistryAway) as unknown:
            ids.id_of(ids.newest("reading_batch"))

    sent = base64.b64encode(b"reader:p@ss-w0rd")
    assert (
        b"Authorization: Basic " + sent in asked[0] or b"authorization: Basic " + sent in asked[0]
    )
    shown = f"{away.value!r}{away.value.__cause__!r}{unknown.value!r}{capsys.readouterr()}"
    assert place in shown
    assert "401" in shown
    for secret in ("reader", "p%40ss", "p@ss", "s3cret", sent.decode()):
        assert secret not in shown


@pytest.mark.parametrize(
    "url",
    [
        "registry:8081",
        "ftp://registry/",
        "http://",
        "http://a:b@:80",
        "http://[::1",
        "\n",
        "http://a:port/x",
    ],
)
def test_a_url_that_cannot_be_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        RegistryClient(url)

    assert refused.value.problems == [PROBLEM]


async def test_a_registry_nobody_serves_does_not_stop_a_start() -> None:
    async with open_registry("http://127.0.0.1:1/api") as ids:
        with pytest.raises(RegistryAway, match=r"http://127\.0\.0\.1:1/api"):
            await ids.check()


async def test_without_a_registry_ids_come_from_files() -> None:
    for none in (None, ""):
        async with open_registry(none) as ids:
            assert "from files" in await ids.check()


async def test_over_tls_the_registry_must_have_a_certificate_of_a_root_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, roots = make_root("registry"), tmp_path / "root.pem"
    roots.write_bytes(root.pem)
    issued = issue_server(root, ["127.0.0.1"])
    for name, content in (("cert.pem", issued.certificate), ("key.pem", issued.key)):
        (tmp_path / name).write_bytes(content)
    tls = server_context(tmp_path / "cert.pem", tmp_path / "key.pem", None)

    async with serving(told("200 OK", [1]), tls=tls) as (place, _):
        async with RegistryClient(f"https://{place}") as client:
            with pytest.raises(RegistryAway, match="CERTIFICATE_VERIFY_FAILED"):
                await client.versions("any")
        monkeypatch.setenv("SSL_CERT_FILE", str(roots))
        async with RegistryClient(f"https://{place}") as client:
            assert await client.versions("any") == [1]
