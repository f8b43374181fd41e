"""Stage `ingress`: batches from gateways to the log's acknowledgement, against a bare sink.

Ours is `python -m central ingress` on real servers; the baseline is `bench.sink`, which looks at
nothing. One client process drives both in turns over the same number of mutual-TLS links, with the
same frames and the window gateways keep. Each server is a process of its own, so its CPU is known.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final
from uuid import uuid4

import uvloop

from bench.fleet import Sender, repeated, senders
from bench.gateways import Link, linked
from bench.inputs import inputs
from bench.posts import Posts, posting
from bench.stack import Servers, central, cpu_s, servers, workplace
from bench.stage import StageResult

GATEWAYS: Final = 4
SMALL: Final = 50
"""Readings of the small batches that are measured beside those of 1,000."""
RECORD_BYTES: Final = 18 * 1_010
"""About what a batch of 1,000 readings takes in the log."""
SINK_TURNS: Final = 10
"""How often the bare sink gets the frames of a round: it is through with them very soon."""
OURS: Final = "ours"
BARE: Final = "bare"
LOGGING: Final = "logging"
POSTED: Final = "posted"


@dataclass(slots=True)
class Target:
    """A server to send to: its processes, and what each round took."""

    port: int
    pids: Mapping[str, int]
    turns: int = 1
    is_ours: bool = False
    is_posted: bool = False
    links: list[Link | Posts] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    async def connect(self, fleet: Sequence[Sender], stack: AsyncExitStack) -> None:
        """Open a link for each gateway."""
        for sender in fleet:
            if self.is_posted:
                posts = await stack.enter_async_context(posting(self.port, sender.tls))
                self.links.append(posts)
                continue
            link = await stack.enter_async_context(linked(self.port, sender.tls))
            if self.is_ours:
                await link.greet(sender.points)
            self.links.append(link)

    async def round(self, frames: Sequence[Sequence[bytes]], readings: int) -> None:
        """Send every gateway's frames and wait for all answers."""
        before, start = self._cpu_s(), time.perf_counter()
        for _ in range(self.turns):
            pours = zip(self.links, frames, strict=True)
            await asyncio.gather(*(link.pour(part) for link, part in pours))
        wall, after = time.perf_counter() - start, self._cpu_s()
        self.rates.append(self.turns * readings / wall)
        for name, spent in after.items():
            taken = (spent - before[name]) * 1e9 / (self.turns * readings)
            self.cpu.setdefault(name, []).append(taken)

    def figures(self) -> "Figures":
        """Give the medians, and forget the rounds."""
        cpu = {name: median(each) for name, each in self.cpu.items()}
        figures = Figures(median(self.rates), cpu)
        self.rates, self.cpu = [], {}
        return figures

    def _cpu_s(self) -> dict[str, float]:
        counts = {name: cpu_s(pid) for name, pid in self.pids.items()}
        return {**counts, "client": time.process_time()}


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one target: readings a second, and CPU by process in µs for 1,000 readings."""

    rate: float
    cpu: Mapping[str, float]

    @property
    def server_cpu(self) -> float:
        """CPU of the server alone: without the client and the log."""
        return self.cpu.get("ingress", self.cpu.get("sink", 0.0))

    def to_json(self) -> dict[str, object]:
        """List them, rounded."""
        cpu = {name: _short(each) for name, each in self.cpu.items()}
        return {"rate": _short(self.rate), "cpu_us_per_1000": cpu}


def run(rounds: int, quick: bool) -> StageResult:
    """Compare with batches of 1,000 readings, and of 50."""
    given = repeated(inputs(2 if quick else 20), GATEWAYS)
    with (
        workplace() as folder,
        servers(folder / "stack") as found,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        settings = found.settings(folder / "data")
        fleet = runner.run(senders(settings, f"bench_{uuid4().hex[:8]}", given))
        with (
            central(found, folder, ["ingress"]) as process,
            _sink(settings.data, found, 0) as bare,
            _sink(settings.data, found, RECORD_BYTES) as logging,
        ):
            log = {name: pid for name, pid in found.pids.items() if name == "kafka"}
            targets = {
                OURS: Target(process.link_port, {**process.pids, **log}, is_ours=True),
                BARE: Target(bare[0], {"sink": bare[1]}, SINK_TURNS),
                POSTED: Target(bare[0], {"sink": bare[1]}, is_posted=True),
                LOGGING: Target(logging[0], {"sink": logging[1], **log}),
            }
            batches = 32 if quick else 512
            large, small = runner.run(_measure(targets, fleet, batches, rounds))
    return _result(large, small, rounds)


async def _measure(
    targets: Mapping[str, Target], fleet: Sequence[Sender], batches: int, rounds: int
) -> tuple[Mapping[str, Figures], Mapping[str, Figures]]:
    async with AsyncExitStack() as stack:
        for target in targets.values():
            await target.connect(fleet, stack)
        large = await _rounds(targets, fleet, (batches, None), rounds)
        small = await _rounds(targets, fleet, (batches, SMALL), rounds)
    return large, small


async def _rounds(
    targets: Mapping[str, Target],
    fleet: Sequence[Sender],
    load: tuple[int, int | None],
    rounds: int,
) -> Mapping[str, Figures]:
    for number in range(rounds + 1):
        made = [sender.frames(*load) for sender in fleet]
        frames, readings = [part for part, _ in made], sum(count for _, count in made)
        for target in targets.values():
            await target.round(frames, readings)
            if number == 0:
                target.figures()  # the first round warms up
    return {name: target.figures() for name, target in targets.items()}


@contextmanager
def _sink(folder: Path, found: Servers, record_bytes: int) -> Iterator[tuple[int, int]]:
    """Run a sink; gives its port and its process id."""
    command = [sys.executable, "-m", "bench.sink", str(folder), str(record_bytes)]
    env = {**os.environ, **found.env}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _result(large: Mapping[str, Figures], small: Mapping[str, Figures], rounds: int) -> StageResult:
    ours, bare, posted, logging = (large[name] for name in (OURS, BARE, POSTED, LOGGING))
    return StageResult(
        stage="ingress",
        metric="rate",
        ratio=ours.rate / bare.rate,
        better="higher",
        rate=ours.rate,
        baseline_rate=bare.rate,
        cpu_us_per_1000=ours.server_cpu,
        bytes_per_reading=None,
        rounds=rounds,
        ours={
            "path": "python -m central ingress: link, checks, point ids, one record, the log's ack",
            "gateways": GATEWAYS,
            "batch_readings": "about 1,000",
            **ours.to_json(),
            "cpu_ratio": _short(bare.server_cpu / ours.server_cpu),
            "ratio_to_posts": _short(ours.rate / posted.rate),
            "cpu_ratio_to_posts": _short(posted.server_cpu / ours.server_cpu),
            "ratio_to_logging_sink": _short(ours.rate / logging.rate),
            "cpu_ratio_to_logging_sink": _short(logging.server_cpu / ours.server_cpu),
            f"batches_of_{SMALL}": {
                **small[OURS].to_json(),
                "ratio": _short(small[OURS].rate / small[BARE].rate),
                "cpu_ratio": _short(small[BARE].server_cpu / small[OURS].server_cpu),
            },
        },
        baseline={
            "path": "bench.sink: same TLS and protocol class, looks at nothing, a receipt a batch",
            **bare.to_json(),
            "posts": {"path": "the same sink, a request a batch over HTTP", **posted.to_json()},
            "logging_sink": {"record_bytes": RECORD_BYTES, **logging.to_json()},
            f"batches_of_{SMALL}": small[BARE].to_json(),
        },
    )


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")
