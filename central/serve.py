"""Several web servers in one event loop: bind first, serve, stop in order."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from central.settings import variable
from shared.errors import SettingsError
from shared.link import MAX_FRAME_BYTES

PING_INTERVAL_S: Final = 10.0
PING_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Door:
    """An address to listen on; `setting` names the setting that holds its port."""

    name: str
    setting: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Bound:
    """A door that holds its port; `port` is the real one where 0 was asked for."""

    door: Door
    socket: socket.socket

    @property
    def port(self) -> int:
        """Tell the port that is held."""
        return int(self.socket.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Site:
    """What answers at a door."""

    app: Any
    tls: ssl.SSLContext | None = None
    websockets: type[asyncio.Protocol] | str = "websockets-sansio"
    max_message_bytes: int = MAX_FRAME_BYTES


def bind(door: Door) -> Bound:
    """Take the door's port.

    Raises `SettingsError` that names address, setting and what to do, where that fails.
    """
    try:
        family = socket.getaddrinfo(door.host, door.port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _refuse(door, error) from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((door.host, door.port))
        made.listen(2048)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise _refuse(door, error) from error
    return Bound(door, made)


@contextlib.asynccontextmanager
async def serving(sites: Mapping[Bound, Site], stop_s: float) -> AsyncIterator[None]:
    """Serve all sites until the context ends; then give open requests `stop_s` seconds.

    A server that ends by itself ends the context with its error.
    """
    servers = [_Server(_config(site, stop_s)) for site in sites.values()]
    async with asyncio.TaskGroup() as group:
        for server, bound in zip(servers, sites, strict=True):
            group.create_task(server.serve([bound.socket]), name=bound.door.name)
        try:
            async with asyncio.timeout(30):
                await asyncio.gather(*(server.up.wait() for server in servers))
            yield
        finally:
            for server in servers:
                server.should_exit = True


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to the process and tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        # Cancelled, uvicorn leaves its listeners to the loop, which then mistakes the next file of
        # the same number for them.
        try:
            await super().serve(sockets)
        finally:
            for server in getattr(self, "servers", ()):
                server.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        starting = asyncio.ensure_future(super().startup(sockets))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await starting
            raise
        self.up.set()


def _config(site: Site, stop_s: float) -> uvicorn.Config:
    tls = site.tls
    return uvicorn.Config(
        site.app,
        interface="asgi3",
        http="httptools",
        ws=site.websockets,
        ws_max_size=site.max_message_bytes,
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=PING_TIMEOUT_S,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(stop_s)),
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
    )


def _refuse(door: Door, error: OSError) -> SettingsError:
    where = f"{door.host}:{door.port}"
    name = variable(door.setting)
    if error.errno == errno.EADDRINUSE:
        problem = (
            f"{door.name}: {where} is in use by another program. "
            f"Stop that program, or choose a free port by {name}."
        )
    elif error.errno == errno.EACCES:
        problem = f"{door.name}: not allowed to listen on {where}. Choose another port by {name}."
    else:
        host = name.replace("PORT", "HOST")
        problem = f"{door.name}: cannot listen on {where}: {error.strerror}. See {host}, {name}."
    return SettingsError("network", [problem])
