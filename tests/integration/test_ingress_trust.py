"""Who is let in at the link, and who is cut off: before a frame is read, and while it lives."""

import asyncio
import base64
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from central import admin
from central.ingress.authority import Authority, spki_sha256
from central.storage.catalogue import find_gateway, find_project, register_certificate
from shared import pki
from shared.link import SUBPROTOCOL
from tests.servers.central_process import Central, until
from tests.servers.link_peer import Credentials, keep_credentials, link_peer

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration


def certify(
    central: Central,
    root: pki.Root,
    *,
    project: str = "demo",
    days: float = 7,
    now: datetime | None = None,
) -> Credentials:
    """Make a certificate by hand, which central did not hand out."""
    key, csr = pki.make_key_and_csr()
    certificate = pki.issue_gateway(root, csr, project, "gw1", days, now=now)
    roots = Authority.open(central.settings.data).roots_pem
    folder = central.folder / f"by-hand-{os.urandom(4).hex()}"
    return keep_credentials(folder, certificate, key, roots)


async def register(central: Central, credentials: Credentials, not_after: datetime) -> None:
    await central.code("gw1")
    project = await find_project(central.database.service, "demo")
    assert project is not None
    gateway = await find_gateway(central.database.service, project.project_id, "gw1")
    assert gateway is not None
    certificate = x509.load_pem_x509_certificate(credentials.certificate)
    await register_certificate(
        central.database.service,
        gateway.gateway_id,
        pki.fingerprint(credentials.certificate),
        spki_sha256(certificate),
        not_after,
    )


def own_root(central: Central) -> pki.Root:
    return Authority.open(central.settings.data).root


def sessions(central: Central) -> float:
    value = central.running.platform.registry.get_sample_value("spine_ingress_sessions")
    assert value is not None
    return value


async def status_of(central: Central, context: ssl.SSLContext) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with link_peer(central.link_port, context):
            pass
    return refused.value.response.status_code


async def test_a_certificate_that_was_never_handed_out_is_refused(central: Central) -> None:
    unknown = certify(central, own_root(central))
    assert await status_of(central, unknown.context()) == 403


async def test_a_certificate_that_names_a_foreign_project_is_refused(central: Central) -> None:
    foreign = certify(central, own_root(central), project="other")
    assert await status_of(central, foreign.context()) == 403


async def test_a_certificate_of_another_authority_is_refused_by_tls(central: Central) -> None:
    stranger = certify(central, pki.make_root("somebody else"))
    with pytest.raises((OSError, InvalidHandshake, WebSocketException)) as refused:
        async with link_peer(central.link_port, stranger.context()):
            pass
    assert not isinstance(refused.value, InvalidStatus)
    assert sessions(central) == 0


async def test_an_expired_certificate_is_refused_by_tls(central: Central) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=3)
    expired = certify(central, own_root(central), days=1, now=long_ago)
    await register(central, expired, long_ago + timedelta(days=1))
    with pytest.raises((OSError, InvalidHandshake, WebSocketException)) as refused:
        async with link_peer(central.link_port, expired.context()):
            pass
    assert not isinstance(refused.value, InvalidStatus)


async def test_a_certificate_that_ended_in_the_catalogue_is_refused(central: Central) -> None:
    ended = certify(central, own_root(central))
    await register(central, ended, datetime.now(UTC) - timedelta(seconds=1))
    assert await status_of(central, ended.context()) == 403


async def test_no_certificate_is_refused_by_tls(central: Central) -> None:
    roots = Authority.open(central.settings.data).roots_pem
    with pytest.raises((OSError, InvalidHandshake, WebSocketException)) as refused:
        async with link_peer(central.link_port, pki.client_context(roots)):
            pass
    assert not isinstance(refused.value, InvalidStatus)


async def test_a_known_certificate_is_let_in(central: Central) -> None:
    """The control of the tests above: the same steps with a good certificate work."""
    good = certify(central, own_root(central))
    await register(central, good, datetime.now(UTC) + timedelta(days=1))
    async with link_peer(central.link_port, good.context()) as peer:
        await peer.hello()


async def test_a_revoked_gateway_is_cut_off_with_4403_and_stays_out(central: Central) -> None:
    gateway = await central.gateway()
    other = await central.gateway("gw2")
    async with (
        link_peer(central.link_port, gateway.context()) as peer,
        link_peer(central.link_port, other.context()) as untouched,
    ):
        await peer.hello()
        await untouched.hello()
        await admin.revoke(central.settings, "demo", "gw1")
        async with asyncio.timeout(5):
            assert await peer.closed() == 4403
        assert untouched.socket.close_code is None
    assert await status_of(central, gateway.context()) == 403


async def test_a_session_outlives_its_certificate_by_no_frame(central: Central) -> None:
    short = certify(central, own_root(central), days=3 / 86_400)
    await register(central, short, datetime.now(UTC) + timedelta(days=1))
    ends = x509.load_pem_x509_certificate(short.certificate).not_valid_after_utc
    async with link_peer(central.link_port, short.context()) as peer:
        await peer.hello()

        async def has_ended() -> bool:
            return datetime.now(UTC) > ends

        await until(has_ended, "the certificate ends")
        await peer.socket.send(b"anything")
        assert await peer.closed() == 4403


def upgrade(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bytes, ssl.SSLSession | None, bool]:
    """Do an upgrade by hand: status line, the TLS session to resume, whether one was resumed."""
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET /link HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    )
    with (
        socket.create_connection(("localhost", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
    ):
        tls.sendall(request.encode())
        answer = tls.recv(4_096)
        return answer.split(b"\r\n", 1)[0], tls.session, bool(tls.session_reused)


async def test_a_resumed_tls_session_still_carries_the_certificate(central: Central) -> None:
    gateway = await central.gateway()
    context = gateway.context()
    port = central.link_port
    status, session, is_resumed = await asyncio.to_thread(upgrade, port, context, None)
    assert (status, is_resumed) == (b"HTTP/1.1 101 Switching Protocols", False)
    status, session, is_resumed = await asyncio.to_thread(upgrade, port, context, session)
    assert (status, is_resumed) == (b"HTTP/1.1 101 Switching Protocols", True)
    await admin.revoke(central.settings, "demo", "gw1")
    status, _, is_resumed = await asyncio.to_thread(upgrade, port, context, session)
    assert (status, is_resumed) == (b"HTTP/1.1 403 Forbidden", True)


async def test_tls_1_2_is_not_spoken(central: Central, tmp_path: Path) -> None:
    gateway = await central.gateway()
    context = gateway.context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(upgrade, central.link_port, context, None)


async def test_two_projects_do_not_meet(central: Central) -> None:
    await admin.setup(central.settings, "other", "main")
    gateway = await central.gateway("gw1", "other")
    async with link_peer(central.link_port, gateway.context()) as peer:
        await peer.hello()
    async with central.client("demo") as client:
        assert (await client.get("/gateways")).json() == {"gateways": []}
        foreign = await client.get(f"{central.url}/api/v1/projects/other/gateways")
    assert foreign.status_code == 403
    assert foreign.json()["code"] == "other_project"
