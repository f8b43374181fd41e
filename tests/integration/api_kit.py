"""What the tests of the local API stand on: a gateway's parts, with the API served over sockets."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from edge.api.listener import api_serving
from edge.enrolment import Identity
from edge.local_api import SOCKET_FILE
from edge.parts import Parts
from edge.settings import load
from edge.uplink import Uplink
from shared import pki
from shared.clock import Clock, SystemClock
from tests.integration.twin_kit import Site, site

API = "/api/v1"


@dataclass
class ServedGateway:
    """A gateway's parts, a client of its command line, and one that is not signed in."""

    site: Site
    parts: Parts
    url: str
    folder: Path
    local: httpx2.AsyncClient
    stranger: httpx2.AsyncClient
    technician: httpx2.AsyncClient

    @asynccontextmanager
    async def signed_in(self, role: str = "technician") -> AsyncIterator[httpx2.AsyncClient]:
        """Sign in anew by a link."""
        made = await self.local.post(f"{API}/links", json={"role": role})
        async with httpx2.AsyncClient(base_url=self.url) as client:
            token = made.json()["token"]
            entered = await client.post(f"{API}/session/link", json={"token": token})
            assert entered.status_code == 200, entered.text
            yield client

    async def revision(self) -> Mapping[str, str]:
        """Give the header that names the configuration in force."""
        return {"If-Match": f'"{self.parts.twin.current.number}"'}


@asynccontextmanager
async def served(
    folder: Path,
    document: Mapping[str, Any] | None = None,
    *,
    clock: Clock | None = None,
    api: Mapping[str, Any] | None = None,
) -> AsyncIterator[ServedGateway]:
    """Run a gateway's parts and serve the API as the gateway does."""
    clock = clock or SystemClock()
    config = load(_file(folder, api or {}))
    identity = enrolled(config.data)
    async with AsyncExitStack() as stack:
        inner = await stack.enter_async_context(site(config.data, document, clock))
        uplink = Uplink(config.file.central.link, identity, inner.outbox, clock)
        parts = Parts(
            inner.outbox,
            inner.intake,
            inner.collector,
            uplink,
            clock,
            config.file.outbox.max_bytes,
            clock.monotonic_s(),
            inner.twin,
        )
        url = await stack.enter_async_context(api_serving(parts, config, identity))
        transport = httpx2.AsyncHTTPTransport(uds=str(config.data / SOCKET_FILE))
        local, stranger = [
            await stack.enter_async_context(client)
            for client in (
                httpx2.AsyncClient(transport=transport, base_url="http://gateway"),
                httpx2.AsyncClient(base_url=url, verify=False),
            )
        ]
        gateway = ServedGateway(inner, parts, url, config.data, local, stranger, stranger)
        if url.startswith("http:"):
            gateway.technician = await stack.enter_async_context(gateway.signed_in())
        yield gateway


def enrolled(data: Path) -> Identity:
    """Give the gateway an identity that no central knows."""
    data.mkdir(exist_ok=True, parents=True)
    root = pki.make_root("test")
    key, csr = pki.make_key_and_csr()
    (data / "identity.pem").write_bytes(key + pki.issue_gateway(root, csr, "demo", "gw1"))
    (data / "roots.pem").write_bytes(root.pem)
    return Identity.load(data)


def _file(folder: Path, api: Mapping[str, Any]) -> Path:
    path = folder / "gateway.yaml"
    central = {"link": "wss://127.0.0.1:1/link", "enrol": "https://127.0.0.1:1"}
    gateway = {"data": "data", "clock": "trusted", "api": {"enabled": True, "port": 0, **api}}
    # JSON is YAML too.
    path.write_text(json.dumps({"gateway": gateway, "central": central}))
    return path


def code_of(answer: httpx2.Response) -> str:
    """Read the code of a problem; everything that is not good must be one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]
    return str(problem["code"])
