"""Where the local API listens: a TCP port, always under TLS beyond loopback, and a Unix socket.

A client can hold a connection, a buffer of some kilobytes and a place among `MOST_CONNECTIONS`, and
none of it for long: who sends no request, or does not take the answer, is cut off.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.api.app import api_app, guarded
from edge.api.certificate import ensured, names_of, server_context
from edge.api.context import Context
from edge.api.door import Door
from edge.enrolment import Identity
from edge.field.tools import field_tools
from edge.local_api import SOCKET_FILE
from edge.parts import Parts
from edge.serving import GRACE_S, listener_at, serving
from edge.settings import ApiSettings, GatewayConfig
from shared.logs import get

MOST_CONNECTIONS: Final = 64
REQUEST_S: Final = 15.0
"""How long a connection may take to send the head of a request."""

ANSWER_S: Final = 30.0
"""How long a client may leave an answer untaken."""

MOST_HEAD: Final = 16 * 1024
MOST_FRAME: Final = 64 * 1024
_LONGEST_PATH: Final = 107
"""Of a Unix socket (`sun_path` of sockaddr_un without its end)."""

_log = get("api")


@asynccontextmanager
async def api_serving(
    parts: Parts, config: GatewayConfig, identity: Identity
) -> AsyncIterator[str]:
    """Serve the API while the context is open, and tell where.

    Raises `SettingsError` where the port is busy.
    """
    twin = parts.twin
    door = Door(twin.secrets.store, parts.clock)
    settings = config.file.gateway.api
    async with AsyncExitStack() as stack:
        tools = await stack.enter_async_context(
            field_tools(twin, parts.collector.live, parts.logs, parts.clock)
        )
        here = Context(parts, config, identity, door, tools)
        stack.enter_context(_hiding(here))
        app = api_app(here)
        local = _local_socket(config.data / SOCKET_FILE)
        if local is not None:
            stack.callback((config.data / SOCKET_FILE).unlink, missing_ok=True)
            inside = _server_config(guarded(app, (), is_local=True), None)
            await stack.enter_async_context(serving(inside, local))
        listener = listener_at(settings.host, settings.port, "gateway.api")
        context = await asyncio.to_thread(_tls, settings, config.data, identity)
        served = guarded(app, (socket.gethostname(), *settings.allowed_hosts))
        await stack.enter_async_context(serving(_server_config(served, context), listener))
        place = f"{'https' if context else 'http'}://{settings.host}:{listener.getsockname()[1]}"
        _log.info("the local API listens", place=place)
        yield place


@contextmanager
def _hiding(context: Context) -> Iterator[None]:
    """Keep what is sealed out of the log entries that people see, also what is sealed later."""
    context.hide_secrets()
    context.twin.listeners.append(context.hide_secrets)
    try:
        yield
    finally:
        context.twin.listeners.remove(context.hide_secrets)


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen at is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(settings: ApiSettings, data: Path, identity: Identity) -> ssl.SSLContext | None:
    if is_loopback(settings.host):
        return None
    names = names_of(settings.host, settings.allowed_hosts)
    return server_context(ensured(data, names, identity.vault), identity.vault)


def _server_config(app: ASGIApp, context: ssl.SSLContext | None) -> uvicorn.Config:
    tls: dict[str, Any] = {} if context is None else {"ssl_context_factory": lambda *_: context}
    return uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=_Connection,
        ws="websockets-sansio",
        ws_max_size=MOST_FRAME,
        ws_max_queue=4,
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=MOST_HEAD,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_S,
        **tls,
    )


def _local_socket(path: Path) -> socket.socket | None:
    """Listen at a path that only the gateway's user can open; that is who may do everything."""
    if len(str(path)) > _LONGEST_PATH:
        _log.warning("no socket for the command line: the path of data is too long", path=str(path))
        return None
    # The outbox is open: no other gateway lives on this folder, so what lies there is left over.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(16)
    return listener


class _Connection(H11Protocol):
    """A connection that is cut off when its client does not go on."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadlines: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._expect("request", REQUEST_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting("request")
        self._stop_expecting("taken")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect("request", REQUEST_S)
        else:
            self._stop_expecting("request")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect("taken", ANSWER_S)

    def resume_writing(self) -> None:
        self._stop_expecting("taken")
        super().resume_writing()

    def _expect(self, what: str, within_s: float) -> None:
        if what not in self._deadlines:
            self._deadlines[what] = self.loop.call_later(within_s, self.transport.abort)

    def _stop_expecting(self, what: str) -> None:
        deadline = self._deadlines.pop(what, None)
        if deadline is not None:
            deadline.cancel()
