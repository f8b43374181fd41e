"""The sink of our gateway: a central that settles at once and notes when each batch came."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bench.rig.ports import HOST, free_port
from bench.rig.readings import Arrival, Gap
from shared import link, pki
from shared.batch import decode, decode_events
from shared.model import Kind, PointSet

_WINDOW_BYTES: Final = 1_000_000


@dataclass(slots=True)
class LinkSink:
    """Takes what comes; a batch that comes again is one batch, as it is for central."""

    root: pki.Root
    folder: Path
    port: int = field(default_factory=free_port)
    batches: dict[tuple[int, int], tuple[float, link.Batch]] = field(default_factory=dict)
    """By epoch and seq; the time is that of `time.time`."""
    point_sets: dict[bytes, PointSet] = field(default_factory=dict)
    _delivered: dict[int, int] = field(default_factory=dict)
    _server: Server | None = None

    async def start(self) -> None:
        """Serve."""
        context = pki.server_context(
            self.folder / "server.pem", self.folder / "server.key", self.root.pem
        )
        self._server = await serve(
            self._session,
            HOST,
            self.port,
            ssl=context,
            subprotocols=[link.SUBPROTOCOL],  # type: ignore[list-item]  # NewType of str
            max_size=link.MAX_FRAME_BYTES,
            compression=None,
        )

    async def stop(self) -> None:
        """Go away: links end, and nobody listens."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def _session(self, socket: ServerConnection) -> None:
        try:
            async for data in socket:
                assert isinstance(data, bytes)
                for answer in self._answers(link.unpack(data)):
                    await socket.send(link.pack(answer))
        except ConnectionClosed:
            return

    def _answers(self, frame: link.Frame) -> Iterator[link.Frame]:
        match frame:
            case link.Hello():
                yield link.Welcome(
                    version=1,
                    settled=(),
                    utc_us=frame.clock.utc_us,
                    config_revision=0,
                    window_bytes=_WINDOW_BYTES,
                    max_body_bytes=link.MAX_BODY_BYTES,
                )
            case link.PointSetFrame():
                self.point_sets[frame.hash] = PointSet.from_rows(frame.points)
            case link.Batch():
                yield from self._taken(frame)

    def _taken(self, batch: link.Batch) -> Iterator[link.Frame]:
        name = batch.epoch, batch.seq
        if name not in self.batches:
            self.batches[name] = time.time(), batch
            count = 0 if batch.kind is Kind.EVENTS else batch.count
            self._delivered[batch.epoch] = self._delivered.get(batch.epoch, 0) + count
        yield link.Receipt(
            settled=(
                link.Settled(
                    epoch=batch.epoch,
                    seqs=((batch.seq, batch.seq),),
                    delivered=self._delivered[batch.epoch],
                    collapsed=0,
                    quarantined=0,
                ),
            )
        )
        if batch.point_set not in self.point_sets:
            yield link.NeedPointSet(hash=batch.point_set)

    def arrivals(self, began_at: float) -> Iterator[Arrival]:
        """List the good readings of the fleet that came."""
        for came_at, batch in self._of(Kind.READINGS):
            names = self._names(batch.point_set)
            columns = decode(batch.body)
            rows = zip(
                columns.series.tolist(),
                columns.value.tolist(),
                columns.quality.tolist(),
                strict=True,
            )
            for series, value, quality in rows:
                if series in names and not quality:
                    at_ms = (came_at - began_at) * 1_000
                    yield Arrival((*names[series], int(value)), at_ms)

    def gaps(self, began_at: float) -> Iterator[Gap]:
        """List the losses that the gateway declared."""
        for _, batch in self._of(Kind.EVENTS):
            names = self._names(batch.point_set)
            for event in decode_events(batch.body):
                series = [one for first, last in event["series"] for one in range(first, last + 1)]
                yield Gap(
                    frozenset(names[one] for one in series if one in names),
                    event["from_us"] / 1_000 - began_at * 1_000,
                    event["to_us"] / 1_000 - began_at * 1_000,
                )

    def _of(self, kind: Kind) -> Iterator[tuple[float, link.Batch]]:
        """List the batches of a kind whose points are known."""
        for came_at, batch in self.batches.values():
            if batch.kind is kind and batch.point_set in self.point_sets:
                yield came_at, batch

    def _names(self, point_set: bytes) -> dict[int, tuple[int, int]]:
        """Tell unit and point by series, for points with keys `u1/p0`."""
        keys = enumerate(point.key for point in self.point_sets[point_set].points)
        parted = {series: key.partition("/") for series, key in keys}
        return {
            series: (int(unit[1:]), int(point[1:]))
            for series, (unit, _, point) in parted.items()
            if unit[1:].isdigit() and point[1:].isdigit()
        }


@asynccontextmanager
async def link_sink(folder: Path) -> AsyncIterator[LinkSink]:
    """Serve a sink under an authority of its own while the context lasts."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    root = pki.make_root("rig")
    issued = pki.issue_server(root, [HOST])
    pki.write_private(folder / "server.pem", issued.certificate)
    pki.write_private(folder / "server.key", issued.key)
    sink = LinkSink(root, folder)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop()
