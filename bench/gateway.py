"""Stage `gateway`: one gateway with 1,000 Modbus points, 200 MQTT topics and 500 OPC UA variables.

Every point has a new value every second: 1,700 readings a second to a central that settles at once.
What the gateway takes for that, how long its start takes, and whether all of it arrives.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop

from bench.rig import install
from bench.rig.broker import broker_sink
from bench.rig.fleet import fleet
from bench.rig.layout import Layout
from bench.rig.line import Line, Steady
from bench.rig.link import link_sink
from bench.rig.ports import HOST, free_port
from bench.rig.processes import running
from bench.rig.products import spine
from bench.rig.readings import Verdict, judge, served
from bench.rig.sources import UNITS, Source, node, source, topic
from bench.sampling import py_spy, sampled, table
from bench.stack import workplace
from bench.stage import StageResult

MODBUS: Final = Layout(100)
PUSHED: Final[Mapping[str, Layout]] = {"mqtt": Layout(200), "opcua": Layout(500)}
RATE: Final = MODBUS.rate + sum(one.points for one in PUSHED.values())
STEADY_S: Final = 60.0
SHORTEST_S: Final = 10.0
SAMPLED_S: Final = 20.0
OUT: Final = Path(__file__).parent / "out"


@dataclass(frozen=True, slots=True)
class Taken:
    """What one round took; verdicts of what was pushed are by protocol."""

    start_s: float
    steady: Steady
    pushed: Mapping[str, Verdict]
    batches_a_second: float

    @property
    def arrived(self) -> int:
        """Count the readings that came to the sink."""
        verdicts = [self.steady.verdict, *self.pushed.values()]
        return sum(one.read - one.lost for one in verdicts)

    @property
    def cpu_us_per_1000(self) -> float:
        """Give the CPU for 1,000 readings of all protocols."""
        of_modbus = self.steady.verdict
        return self.steady.cpu_us_per_1000 * (of_modbus.read - of_modbus.lost) / self.arrived


def run(rounds: int, quick: bool) -> StageResult:
    """Measure rounds, each with a gateway of its own, then sample one more."""
    install.check("node", "npm")
    install.fleet()
    seconds = 3.0 if quick else max(SHORTEST_S, STEADY_S / rounds)
    with workplace() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken = [runner.run(_round(folder / str(nth), seconds)) for nth in range(rounds)]
        if py_spy() is not None and not quick:
            runner.run(_profiled(folder / "profile"))
    return _result(taken, seconds)


async def _round(folder: Path, seconds: float) -> Taken:
    async with _at_work(folder) as (line, sources):
        start_s = await _until_all_came(line)
        before = line.fleet.now_ms()
        steady = await line.steady(seconds)
        begin, end = steady.between
        arrivals, gaps = line.arrivals(), line.gaps()
        pushed = {
            one.kind: judge(
                one.layout,
                (begin, end),
                served(one.log, one.layout),
                arrivals,
                gaps,
                [UNITS[one.kind]],
            )
            for one in sources
        }
        whole_s = (line.fleet.now_ms() - before) / 1_000
        return Taken(start_s, steady, pushed, line.batches_since(before) / whole_s)


async def _until_all_came(line: Line) -> float:
    """Wait for a reading of each device; tell how long after the start the last was read."""
    wanted = len(MODBUS.units) + len(PUSHED)

    def first() -> dict[int, int]:
        found: dict[int, int] = {}
        for one in line.arrivals():
            found.setdefault(one.name[0], one.name[2])
        return found

    await line.process.until(lambda: len(first()) >= wanted, "a device brings nothing", 60.0)
    return line.fleet.began_at + max(first().values()) / 1_000 - line.process.started_at


@asynccontextmanager
async def _at_work(folder: Path) -> AsyncIterator[tuple[Line, Sequence[Source]]]:
    home, port = folder / "product", free_port()
    async with (
        fleet(MODBUS, folder / "fleet") as units,
        broker_sink(folder / "broker", []) as broker,
        link_sink(folder / "sink") as sink,
        source("mqtt", broker.port, PUSHED["mqtt"], units.began_at, folder / "mqtt") as topics,
        source("opcua", port, PUSHED["opcua"], units.began_at, folder / "opcua") as nodes,
    ):
        await asyncio.to_thread(home.mkdir, parents=True)
        command = spine(home, MODBUS, units.port, sink, _pushing(broker.port, port))
        async with running(command.words, home, command.env) as process:
            yield Line(None, units, sink, process), (topics, nodes)


def _pushing(broker_port: int, server_port: int) -> list[dict[str, Any]]:
    places: dict[str, dict[str, Any]] = {
        "mqtt": {"host": HOST, "port": broker_port, "client_id": "gateway"},
        "opcua": {"url": f"opc.tcp://{HOST}:{server_port}/"},
    }

    def where(kind: str, nth: int) -> dict[str, str]:
        return {"topic": topic(nth)} if kind == "mqtt" else {"node": node(nth)}

    return [
        {
            "name": kind,
            "driver": kind,
            "options": options,
            "points": [
                {"key": f"u{UNITS[kind]}/p{nth}", "source": where(kind, nth)}
                for nth in range(PUSHED[kind].points)
            ],
        }
        for kind, options in places.items()
    ]


async def _profiled(folder: Path) -> None:
    """Write where the time of the gateway goes."""
    OUT.mkdir(exist_ok=True)
    async with _at_work(folder) as (line, _):
        await _until_all_came(line)
        await asyncio.sleep(SAMPLED_S / 2)
        with sampled({"gateway": line.process.pid}, folder) as written:
            await asyncio.sleep(SAMPLED_S)
    (OUT / "gateway.txt").write_text(table(written["gateway"].read_text("utf-8")), "utf-8")


def _result(taken: Sequence[Taken], seconds: float) -> StageResult:
    rss = max(one.steady.memory.peak_rss for one in taken)
    return StageResult(
        stage="gateway",
        metric="cpu_us_per_1000",
        ratio=None,
        better="lower",
        rate=median(one.arrived / seconds for one in taken),
        baseline_rate=None,
        cpu_us_per_1000=median(one.cpu_us_per_1000 for one in taken),
        bytes_per_reading=None,
        rounds=len(taken),
        ours={
            "path": "three protocols, outbox, link over TLS, settled; `python -m edge run`",
            "points": {"modbus": MODBUS.rate, **{k: one.points for k, one in PUSHED.items()}},
            "seconds_a_round": seconds,
            "start_s": round(median(one.start_s for one in taken), 2),
            "peak_rss_mb": round(rss, 1),
            "pss_mb": round(max(one.steady.memory.pss for one in taken), 1),
            "batches_a_second": round(median(one.batches_a_second for one in taken), 2),
            "modbus": [one.steady.verdict.to_json() for one in taken],
            **{kind: [one.pushed[kind].to_json() for one in taken] for kind in PUSHED},
        },
        baseline={},
    )
