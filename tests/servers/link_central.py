"""A central that speaks the link by script: welcomes, settles what comes, says what it is told."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from edge.document import hash_of
from shared import link, pki

Wanted = TypeVar("Wanted", bound=link.Frame)


@dataclass
class LinkCentral:
    """What a test sees of it, and what it tells it to do."""

    roots: bytes
    url: str = ""
    desired: link.Desired | None = None
    """Sent after each welcome."""
    is_away: bool = False
    """Whether it cuts every connection at once."""
    serves_reports: bool = True
    seen: list[link.Frame] = field(default_factory=list)
    sessions: int = 0
    socket: ServerConnection | None = None
    _settled: dict[int, int] = field(default_factory=dict)

    def link_context(self) -> ssl.SSLContext:
        """Trust it, as `edge.uplink.Trust`."""
        if not self.roots:
            return None  # type: ignore[return-value]  # no TLS: for tests of many sessions
        return pki.client_context(self.roots)

    def of(self, kind: type[Wanted]) -> list[Wanted]:
        """List the frames of a kind that were seen."""
        return [frame for frame in self.seen if isinstance(frame, kind)]

    async def want(self, frame: link.Desired) -> None:
        """Want a configuration from now on."""
        self.desired = frame
        if self.socket is not None:
            await self.socket.send(link.pack(frame))

    def cut(self) -> None:
        """End the session that is on."""
        if self.socket is not None:
            self.socket.transport.abort()

    async def serve(self, socket: ServerConnection) -> None:
        """Serve one session."""
        if self.is_away:
            socket.transport.abort()
            return
        self.sessions += 1
        self.socket = socket
        try:
            async for data in socket:
                assert isinstance(data, bytes)
                await self._take(socket, link.unpack(data))
        except ConnectionClosed:
            return

    async def _take(self, socket: ServerConnection, frame: link.Frame) -> None:
        self.seen.append(frame)
        match frame:
            case link.Hello():
                await socket.send(link.pack(self._welcome(frame)))
                if self.desired is not None:
                    await socket.send(link.pack(self.desired))
            case link.Batch():
                count = 0 if frame.kind.value == "events" else frame.count
                self._settled[frame.epoch] = self._settled.get(frame.epoch, 0) + count
                receipt = link.Receipt(settled=(self._told(frame.epoch, frame.seq),))
                await socket.send(link.pack(receipt))
            case link.Reported() if not self.serves_reports:
                await socket.send(link.pack(link.Unsupported(frame="reported")))

    def _welcome(self, hello: link.Hello) -> link.Welcome:
        return link.Welcome(
            version=1,
            settled=(),
            utc_us=hello.clock.utc_us,
            config_revision=self.desired.revision if self.desired else 0,
            window_bytes=1_000_000,
            max_body_bytes=link.MAX_BODY_BYTES,
        )

    def _told(self, epoch: int, seq: int) -> link.Settled:
        delivered = self._settled[epoch]
        return link.Settled(
            epoch=epoch, seqs=((seq, seq),), delivered=delivered, collapsed=0, quarantined=0
        )


def desired(revision: int, document: Any, base: bytes = b"") -> link.Desired:
    """Want a document."""
    return link.Desired(revision=revision, hash=hash_of(document), document=document, base=base)


@asynccontextmanager
async def link_central(folder: Path, *, tls: bool = True) -> AsyncIterator[LinkCentral]:
    root = pki.make_root("scripted")
    issued = pki.issue_server(root, ["127.0.0.1"])
    pki.write_private(folder / "server.pem", issued.certificate)
    pki.write_private(folder / "server.key", issued.key)
    context = pki.server_context(folder / "server.pem", folder / "server.key", None)
    central = LinkCentral(root.pem if tls else b"")
    async with serve(
        central.serve,
        "127.0.0.1",
        0,
        ssl=context if tls else None,
        subprotocols=[link.SUBPROTOCOL],  # type: ignore[list-item]  # NewType of str
        max_size=link.MAX_FRAME_BYTES,
        compression=None,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        central.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/link"
        yield central
