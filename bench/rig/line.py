"""A product at work: between a fleet of units and its sink, each a process of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.rig.broker import BrokerSink, broker_sink
from bench.rig.fleet import Fleet, fleet
from bench.rig.layout import Layout
from bench.rig.link import LinkSink, link_sink
from bench.rig.processes import Running, running
from bench.rig.products import Peer, spine
from bench.rig.readings import Arrival, Gap, Verdict, judge
from bench.rig.usage import Memory, cpu_s, has_children, memory

BEGIN_S: Final = 60.0
WARM_S: Final = 3.0
LATE_S: Final = 15.0
"""How long a reading may take to the sink before it counts as lost."""
FLUSHED_S: Final = 2.5
"""By then the fleet has written down what it served, and the usual reading has come."""


@dataclass(frozen=True, slots=True)
class Steady:
    """What a product did in a time without faults."""

    between: tuple[float, float]
    """Its begin and end, in milliseconds on the clock of the values."""
    verdict: Verdict
    cpu_us_per_1000: float
    memory: Memory


@dataclass(frozen=True, slots=True)
class Line:
    """The parts; `peer` is None for our gateway."""

    peer: Peer | None
    fleet: Fleet
    sink: BrokerSink | LinkSink
    process: Running

    def arrivals(self) -> Sequence[Arrival]:
        """List the readings that came."""
        began_at = self.fleet.began_at
        if isinstance(self.sink, LinkSink):
            return list(self.sink.arrivals(began_at))
        assert self.peer is not None
        return list(self.sink.arrivals(began_at, self.peer.parse))

    def gaps(self) -> Sequence[Gap]:
        """List the losses that the product declared."""
        told = isinstance(self.sink, LinkSink)
        return list(self.sink.gaps(self.fleet.began_at)) if told else []  # type: ignore[union-attr]

    def batches_since(self, since_ms: float) -> int:
        """Count the batches of our gateway that came since a time on the clock of the values."""
        assert isinstance(self.sink, LinkSink), "only our gateway sends batches"
        since = self.fleet.began_at + since_ms / 1_000
        return sum(came_at >= since for came_at, _ in self.sink.batches.values())

    def judged(self, between: tuple[float, float], units: Sequence[int] | None = None) -> Verdict:
        """Judge what was read between two times on the clock of the values."""
        read, layout = self.fleet.served(), self.fleet.layout
        return judge(layout, between, read, self.arrivals(), self.gaps(), units)

    async def settled(self, between: tuple[float, float], limit_s: float) -> Verdict:
        """Judge what was read between two times, as soon as all of it came or time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await asyncio.sleep(FLUSHED_S)
                while self.judged(between).lost:  # noqa: ASYNC110 - the sink sets no event
                    await asyncio.sleep(1.0)
        return self.judged(between)

    async def until_all_are_read(self) -> float:
        """Wait until every point came once; tell how long after the start that was, in seconds."""
        wanted = self.fleet.layout.rate

        def have_come() -> bool:
            return len({one.name[:2] for one in self.arrivals()}) >= wanted

        await self.process.until(have_come, "it does not read every point", BEGIN_S)
        first: dict[tuple[int, int], int] = {}
        for one in self.arrivals():
            first.setdefault(one.name[:2], one.name[2])
        return self.fleet.began_at + max(first.values()) / 1_000 - self.process.started_at

    async def steady(self, seconds: float) -> Steady:
        """Measure without faults for so long."""
        pid = self.process.pid
        await asyncio.sleep(WARM_S)
        # What a product does once at its start, in a process of its own, is none of its upkeep.
        await self.process.until(lambda: not has_children(pid), "it keeps children", BEGIN_S)
        begin, before = self.fleet.now_ms(), cpu_s(pid)
        await asyncio.sleep(seconds)
        end, after = self.fleet.now_ms(), cpu_s(pid)
        taken = memory(pid)
        verdict = await self.settled((begin, end), LATE_S)
        came = max(1, verdict.read - verdict.lost)
        return Steady((begin, end), verdict, (after - before) * 1e9 / came, taken)


@asynccontextmanager
async def line(peer: Peer | None, layout: Layout, folder: Path) -> AsyncIterator[Line]:
    """Set everything up and start it; ends all of it with the context."""
    home = folder / "product"
    async with fleet(layout, folder / "fleet") as units:
        await asyncio.to_thread(home.mkdir, parents=True)
        if peer is None:
            async with link_sink(folder / "sink") as link:
                command = spine(home, layout, units.port, link)
                async with running(command.words, home, command.env) as process:
                    yield Line(None, units, link, process)
        else:
            async with broker_sink(folder / "sink", list(peer.topics)) as broker:
                command = await asyncio.to_thread(
                    peer.set_up, home, layout, units.port, broker.port
                )
                async with running(command.words, home, command.env) as process:
                    yield Line(peer, units, broker, process)
