"""A gateway that speaks the link by script: enrols, connects, sends and awaits frames."""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from shared import batch as bodies
from shared import pki
from shared.columns import Columns
from shared.link import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    Batch,
    ClockState,
    Frame,
    Hello,
    Pending,
    PointSetFrame,
    Welcome,
    pack,
    unpack,
)
from shared.model import Kind, Point, PointSet

DEADLINE_S = 10.0

Wanted = TypeVar("Wanted", bound=Frame)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What enrolment gave: certificate and key on disk, the roots to trust."""

    folder: Path
    roots: bytes

    @property
    def certificate(self) -> bytes:
        return (self.folder / "gateway.pem").read_bytes()

    @property
    def key(self) -> bytes:
        return (self.folder / "gateway.key").read_bytes()

    def context(self) -> ssl.SSLContext:
        return pki.client_context(
            self.roots, self.folder / "gateway.pem", self.folder / "gateway.key"
        )


def keep_credentials(folder: Path, certificate: bytes, key: bytes, roots: bytes) -> Credentials:
    folder.mkdir(parents=True, exist_ok=True)
    pki.write_private(folder / "gateway.key", key)
    pki.write_private(folder / "gateway.pem", certificate)
    return Credentials(folder, roots)


async def enrol(port: int, code: str, folder: Path) -> Credentials:
    """Enrol as a gateway would: fetch the roots, check the pin, send a request."""
    base = f"https://localhost:{port}/enrol"
    insecure = ssl.create_default_context()
    insecure.check_hostname = False
    insecure.verify_mode = ssl.CERT_NONE
    async with httpx2.AsyncClient(verify=insecure) as client:
        roots = (await client.get(f"{base}/ca")).content
    root = pki.find_pinned(roots, code.rsplit("-", 1)[1])
    key, csr = pki.make_key_and_csr()
    async with httpx2.AsyncClient(verify=pki.client_context(root)) as client:
        answer = await client.post(base, json={"code": code, "csr": csr.decode()})
    answer.raise_for_status()
    given = answer.json()
    return keep_credentials(folder, given["certificate"].encode(), key, given["roots"].encode())


class LinkPeer:
    """One connection; frames that nobody waits for are kept in `seen`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen: list[Frame] = []

    async def send(self, frame: Frame) -> None:
        await self.socket.send(pack(frame))

    async def next(self) -> Frame:
        async with asyncio.timeout(DEADLINE_S):
            data = await self.socket.recv()
        assert isinstance(data, bytes)
        frame = unpack(data)
        self.seen.append(frame)
        return frame

    async def await_frame(self, kind: type[Wanted]) -> Wanted:
        """Wait for the next frame of a kind."""
        while True:
            frame = await self.next()
            if isinstance(frame, kind):
                return frame

    async def hello(self, pending: Sequence[Pending] = (), version: int = 1) -> Welcome:
        await self.send(make_hello(pending, version))
        return await self.await_frame(Welcome)

    async def closed(self) -> int:
        """Wait until central closes; give the code."""
        async with asyncio.timeout(DEADLINE_S):
            await self.socket.wait_closed()
        return self.socket.close_code or 0


@asynccontextmanager
async def link_peer(port: int, context: ssl.SSLContext, **options: Any) -> AsyncIterator[LinkPeer]:
    """Connect to the link."""
    async with connect(
        f"wss://localhost:{port}/link",
        ssl=context,
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # a NewType of str
        max_size=MAX_FRAME_BYTES,
        compression=None,
        **options,
    ) as socket:
        yield LinkPeer(socket)


def make_hello(pending: Sequence[Pending] = (), version: int = 1) -> Hello:
    return Hello(
        version=version,
        session=os.urandom(16),
        pending=tuple(pending),
        clock=ClockState(utc_us=now_us(), synchronised=True, boot_id="boot"),
        software="scripted peer",
        config_revision=0,
    )


def now_us() -> int:
    return time.time_ns() // 1_000


def points(*keys: str) -> PointSet:
    return PointSet(tuple(Point(key, "°C") for key in keys))


def point_set_frame(point_set: PointSet) -> PointSetFrame:
    rows = tuple((key, unit, kind, klass) for key, unit, kind, klass in point_set.rows())
    return PointSetFrame(hash=point_set.hash, points=rows)


def readings_batch(
    point_set: PointSet,
    seq: int,
    readings: Sequence[tuple[int, int, float, int]],
    epoch: int = 7,
) -> Batch:
    """Make a batch of (series, observed_at, value, quality)."""
    series, times, values, qualities = zip(*readings, strict=True)
    columns = Columns.of(list(series), list(times), list(values), list(qualities))
    return Batch(
        epoch=epoch,
        seq=seq,
        kind=Kind.READINGS,
        count=len(columns),
        point_set=point_set.hash,
        body=bodies.encode(columns),
    )


def events_batch(
    point_set: PointSet, seq: int, events: list[dict[str, Any]], epoch: int = 7
) -> Batch:
    return Batch(
        epoch=epoch,
        seq=seq,
        kind=Kind.EVENTS,
        count=len(events),
        point_set=point_set.hash,
        body=bodies.encode_events(events),
    )
