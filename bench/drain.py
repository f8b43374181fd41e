"""Stage `drain`: four days of an outage leave the outbox while the gateway goes on reading.

1,000 points read every 10 s, as the gateway commits them, lie in the outbox before. Then the link
comes up. Live batches of 100 readings are committed every second before, during and after; the
latency of one is the time from its commit until central settled it. The baseline of the rate is the
rate of production, that of the latency is the latency without a backlog, in the same run.
"""

import asyncio
import itertools
import math
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final
from uuid import uuid4

import numpy as np
import uvloop

from bench.fleet import Sender, senders
from bench.inputs import walk
from bench.stack import central, servers, workplace
from bench.stage import StageResult
from edge.outbox import Outbox
from edge.recovery import open_outbox
from edge.sealed import Draft
from edge.settings import OutboxSection
from edge.uplink import Uplink
from shared.batch import encode
from shared.clock import MICROSECONDS, SystemClock
from shared.columns import Columns
from shared.model import Kind, Point, PointSet

POINTS: Final = 1_000
INTERVAL_S: Final = 10
HOURS: Final = 96
LIVE_READINGS: Final = POINTS // INTERVAL_S
LOOK_S: Final = 0.005
MODULES: Final = ("storage", "ingress", "messaging")
_SETTINGS: Final = OutboxSection(max_bytes=8 * 1024**3)
_POINT_SET: Final = PointSet(tuple(Point(f"drain/{nth}", "°C") for nth in range(POINTS)))
_CLOCK: Final = SystemClock()
_GOOD: Final = np.zeros(POINTS, np.uint16)


@dataclass(frozen=True, slots=True)
class _Trust:
    """The certificate of a gateway of the bench."""

    context: ssl.SSLContext

    def link_context(self) -> ssl.SSLContext:
        """Give its context."""
        return self.context


@dataclass(slots=True)
class Site:
    """The gateway's sending half, and what its live batches took."""

    outbox: Outbox
    live: list[float] = field(default_factory=list)
    committed: int = 0

    async def prefill(self, hours: float, rng: np.random.Generator) -> int:
        """Commit an outage; tells the readings."""
        polls = int(hours * 3_600 / INTERVAL_S)
        begin_us = _CLOCK.now_us() - polls * INTERVAL_S * MICROSECONDS
        value = np.round(rng.normal(20, 4, POINTS), 1)
        series = np.arange(POINTS, dtype=np.int32)
        for nth in range(polls):
            value = np.round(value + rng.choice([-0.1, 0.0, 0.0, 0.1], POINTS), 1)
            at_us = begin_us + nth * INTERVAL_S * MICROSECONDS
            await self._commit(Columns.of(series, np.full(POINTS, at_us), value, _GOOD[:POINTS]))
        return polls * POINTS

    async def _commit(self, columns: Columns) -> tuple[int, int]:
        t0, t1 = int(columns.observed_at.min()), int(columns.observed_at.max())
        draft = Draft(Kind.READINGS, len(columns), t0, t1, _POINT_SET.hash, encode(columns))
        name = self.outbox.index.current.row.epoch, self.outbox.index.next_seq
        await self.outbox.commit([draft], self.outbox.tail, None)
        self.committed += len(columns)
        return name

    async def go_on(self, is_over: Callable[[], bool], rng: random.Random) -> list[float]:
        """Read and commit until it is over; gives the latencies, in seconds, of what was."""
        self.live = []
        async with asyncio.TaskGroup() as group:
            for nth in itertools.count():
                group.create_task(self._live_batch(nth, rng))
                await asyncio.sleep(1.0)
                await self.outbox.flush()
                if is_over():
                    break
        return self.live

    async def idle(self, seconds: float, rng: random.Random) -> list[float]:
        """Go on for so long without a backlog."""
        end_s = time.perf_counter() + seconds
        return await self.go_on(lambda: time.perf_counter() >= end_s, rng)

    async def _live_batch(self, nth: int, rng: random.Random) -> None:
        first = nth % INTERVAL_S * LIVE_READINGS
        series = np.arange(first, first + LIVE_READINGS, dtype=np.int32)
        values = [round(rng.gauss(20, 4), 1) for _ in range(LIVE_READINGS)]
        times = np.full(LIVE_READINGS, _CLOCK.now_us())
        begun = time.perf_counter()
        epoch, seq = await self._commit(Columns.of(series, times, values, _GOOD[:LIVE_READINGS]))
        while not self._is_settled(epoch, seq):  # noqa: ASYNC110 - receipts set no event
            await asyncio.sleep(LOOK_S)
        self.live.append(time.perf_counter() - begun)

    def _is_settled(self, epoch: int, seq: int) -> bool:
        index = self.outbox.index
        return index.is_settled(epoch, seq) or seq not in index.epochs[epoch].kept

    async def drained(self, rng: random.Random) -> tuple[float, list[float]]:
        """Go on until no more than what is live is pending; gives seconds and live latencies."""
        begun = time.perf_counter()
        ledger = self.outbox.index.ledger
        live = await self.go_on(lambda: ledger().pending <= 5 * LIVE_READINGS, rng)
        return time.perf_counter() - begun, live


def run(rounds: int, quick: bool) -> StageResult:
    """Measure one outage; rounds make the live phases without a backlog longer."""
    hours = 0.5 if quick else HOURS
    with (
        workplace() as folder,
        servers(folder / "stack") as found,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        settings = found.settings(folder / "data")
        given = [walk(1)]
        (sender,) = runner.run(senders(settings, f"bench_{uuid4().hex[:8]}", given))
        with central(found, folder, MODULES) as process:
            work = _measured(
                folder, sender, process.link_port, hours, 3.0 if quick else 6.0 * rounds
            )
            return runner.run(work)


@asynccontextmanager
async def _linked(outbox: Outbox, sender: Sender, port: int) -> AsyncIterator[Uplink]:
    uplink = Uplink(
        f"wss://127.0.0.1:{port}/link", _Trust(sender.tls), outbox, _CLOCK, trusted_clock=True
    )
    sending = asyncio.create_task(uplink.run())
    try:
        yield uplink
    finally:
        sending.cancel()
        await asyncio.wait([sending])


async def _measured(
    folder: Path, sender: Sender, port: int, hours: float, idle_s: float
) -> StageResult:
    place = folder / "gateway"
    await asyncio.to_thread(place.mkdir)
    outbox, _ = await open_outbox(place, _POINT_SET, _CLOCK, _SETTINGS)
    await outbox.begin(time.time_ns())
    site, rng = Site(outbox), random.Random(1)
    try:
        async with _linked(outbox, sender, port):
            before = await site.idle(idle_s, rng)
        backlog = await site.prefill(hours, np.random.default_rng(1))
        used = await outbox.used_bytes()
        cpu_s = time.process_time()
        async with _linked(outbox, sender, port) as uplink:
            while not uplink.is_connected:  # noqa: ASYNC110 - what is committed before is backlog
                await asyncio.sleep(LOOK_S)
            seconds, during = await site.drained(rng)
            cpu_s = time.process_time() - cpu_s
            after = await site.idle(idle_s, rng)
        ledger = outbox.index.ledger()
        assert (ledger.imbalance(), ledger.gaps) == (0, 0), ledger
        assert ledger.delivered + ledger.collapsed + ledger.pending == site.committed, ledger
    finally:
        await outbox.close()
    return _result(backlog, seconds, during, before + after, used / backlog, cpu_s)


def _result(
    backlog: int,
    seconds: float,
    during: list[float],
    idle: list[float],
    bytes_each: float,
    cpu_s: float,
) -> StageResult:
    produced_rate = POINTS / INTERVAL_S
    return StageResult(
        stage="drain",
        metric="rate",
        ratio=backlog / seconds / produced_rate,
        better="higher",
        rate=backlog / seconds,
        baseline_rate=produced_rate,
        cpu_us_per_1000=cpu_s * 1e9 / backlog,
        bytes_per_reading=bytes_each,
        rounds=1,
        ours={
            "path": "outbox, uplink, ingress, log, storage, database until settled",
            "backlog_readings": backlog,
            "drained_s": round(seconds, 1),
            "live_latency_s": _quantiles(during),
            "live_latency_ratio": round(median(during) / median(idle), 2),
        },
        baseline={"rate": "what the points produce", "live_latency_s": _quantiles(idle)},
    )


def _quantiles(latencies: list[float]) -> dict[str, float]:
    return {
        "median": round(median(latencies), 3),
        "p99": round(sorted(latencies)[math.ceil(0.99 * (len(latencies) - 1))], 3),
        "batches": len(latencies),
    }
