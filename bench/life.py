"""Stage `life`: readings from gateways through ingress, log and writer into the database.

All six modules of central are processes of their own, on real servers; the gateways are this
process. A round ends when every batch is settled. CPU is counted for each process. In a last round,
which is not measured, py-spy samples the modules that have readings in hand, and
`bench/out/life-<module>.txt` says where their time goes.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from uuid import uuid4

import uvloop

from bench.fleet import Sender, senders
from bench.gateways import Link, linked
from bench.inputs import walk
from bench.sampling import py_spy, sampled, table
from bench.stack import central, cpu_s, servers, workplace
from bench.stage import StageResult

GATEWAYS: Final = 8
MODULES: Final = ("storage", "ingress", "messaging", "analytics", "egress", "application")
SAMPLED: Final = ("ingress", "storage", "analytics")
OUT: Final = Path(__file__).parent / "out"


@dataclass(frozen=True, slots=True)
class Taken:
    """What one round took: readings a second, and CPU by process in µs for 1,000 readings."""

    rate: float
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Line:
    """Gateways with their links, and the processes their readings go through."""

    fleet: Sequence[Sender]
    links: Sequence[Link]
    pids: Mapping[str, int]

    async def round(self, batches: int) -> Taken:
        """Send so many batches of each gateway and wait until all are settled."""
        made = [sender.frames(batches) for sender in self.fleet]
        readings = sum(count for _, count in made)
        delivered = sum(self._delivered())
        before, start = self._cpu_s(), time.perf_counter()
        pours = zip(self.links, (frames for frames, _ in made), strict=True)
        await asyncio.gather(*(link.pour(frames, until_settled=True) for link, frames in pours))
        wall, after = time.perf_counter() - start, self._cpu_s()
        stored = sum(self._delivered()) - delivered
        assert stored == readings, f"{stored} readings were delivered, not {readings}"
        spent = {name: (after[name] - before[name]) * 1e9 / readings for name in after}
        return Taken(readings / wall, spent)

    async def sample(self, batches: int, folder: Path) -> None:
        """Do one more round, and write where the time of some modules goes."""
        with sampled({name: self.pids[name] for name in SAMPLED}, folder) as written:
            await self.round(batches)
        OUT.mkdir(exist_ok=True)
        for name, path in written.items():
            (OUT / f"life-{name}.txt").write_text(table(path.read_text("utf-8")), "utf-8")

    def _delivered(self) -> Iterator[int]:
        return (count for link in self.links for count in link.told.delivered.values())

    def _cpu_s(self) -> dict[str, float]:
        counts = {name: cpu_s(pid) for name, pid in self.pids.items()}
        return {**counts, "gateways": time.process_time()}


def run(rounds: int, quick: bool) -> StageResult:
    """Measure rounds with all modules up, then sample one more."""
    batches = 20 if quick else 150
    with (
        workplace() as folder,
        servers(folder / "stack") as found,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        settings = found.settings(folder / "data")
        given = [walk(2 if quick else 20)] * GATEWAYS
        fleet = runner.run(senders(settings, f"bench_{uuid4().hex[:8]}", given))

        async def measure(port: int, pids: Mapping[str, int]) -> list[Taken]:
            async with AsyncExitStack() as stack:
                line = Line(fleet, await _links(port, fleet, stack), pids)
                taken = [await line.round(batches) for _ in range(rounds + 1)]
                if py_spy() is not None:
                    await line.sample(batches, folder)
            return taken[1:]  # the first warms up

        with central(found, folder, MODULES) as process:
            pids = {**process.pids, **found.pids}
            taken = runner.run(measure(process.link_port, pids))
    return _result(taken, GATEWAYS * batches)


async def _links(port: int, fleet: Sequence[Sender], stack: AsyncExitStack) -> list[Link]:
    links = []
    for sender in fleet:
        link = await stack.enter_async_context(linked(port, sender.tls))
        await link.greet(sender.points)
        links.append(link)
    return links


def _result(taken: Sequence[Taken], batches: int) -> StageResult:
    cpu = {name: median(one.cpu[name] for one in taken) for name in taken[0].cpu}
    samples = [f"out/life-{name}.txt" for name in SAMPLED]
    return StageResult(
        stage="life",
        metric="rate",
        ratio=None,
        better="higher",
        rate=median(one.rate for one in taken),
        baseline_rate=None,
        cpu_us_per_1000=sum(cpu[name] for name in MODULES),
        bytes_per_reading=None,
        rounds=len(taken),
        ours={
            "path": "gateways, ingress, log, storage, database: until every batch is settled",
            "gateways": GATEWAYS,
            "batches": batches,
            "batch_readings": "about 1,000",
            "cpu_us_per_1000_by_process": {name: _short(each) for name, each in cpu.items()},
            "samples": samples if py_spy() is not None else "none: py-spy is not installed",
        },
        baseline={},
    )


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")
