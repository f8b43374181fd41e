"""Stage `peers`: our gateway beside Telegraf and ThingsBoard's, on one rig, by turns.

A fleet of ten Modbus units behind one address, read every second: 10, 100 and 1,000 readings a
second. The peers publish on Mosquitto, ours sends to a central that settles at once. Each turn is a
fleet, a sink and a product of its own. Then faults, at 100 readings a second: see `bench.rig`.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import uvloop

from bench.rig import faults, install
from bench.rig.layout import Layout
from bench.rig.line import Steady, line
from bench.rig.products import Peer, telegraf, thingsboard
from bench.sampling import py_spy, sampled, table
from bench.stack import workplace
from bench.stage import StageResult

OURS: Final = "spine"
STEADY_S: Final = 60.0
"""How long each product is measured at each rate, in all its turns together, at least."""
SHORTEST_S: Final = 20.0
SAMPLED_S: Final = 20.0
LAYOUTS: Final = (Layout(1), Layout(10), Layout(100))
PRODUCTS: Final[Mapping[str, Peer | None]] = {
    OURS: None,
    "telegraf": telegraf(),
    "thingsboard-gateway": thingsboard(),
}
OUT: Final = Path(__file__).parent / "out"


@dataclass(slots=True)
class Turns:
    """What the turns of a product at one rate took."""

    starts_s: list[float] = field(default_factory=list)
    steady: list[Steady] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        """Give the CPU in µs for 1,000 readings that arrived."""
        return median(one.cpu_us_per_1000 for one in self.steady)

    def to_json(self) -> dict[str, object]:
        """List the figures: medians of the turns, sums of what was lost, the most memory."""
        ages = sorted(age for one in self.steady for age in one.verdict.ages_ms)
        verdicts = [one.verdict for one in self.steady]
        told: dict[str, object] = {
            "cpu_us_per_1000": round(self.cpu),
            "peak_rss_mb": round(max(one.memory.peak_rss for one in self.steady)),
            "pss_mb": round(max(one.memory.pss for one in self.steady)),
            "start_s": round(median(self.starts_s), 2),
            **{
                name: sum(getattr(one, name) for one in verdicts)
                for name in ("due", "missed", "lost", "declared", "doubled")
            },
        }
        if ages:
            told["age_ms"] = round(median(ages))
            told["age_p99_ms"] = round(ages[math.ceil(0.99 * (len(ages) - 1))])
        return told


Taken = Mapping[str, Mapping[int, Turns]]
"""By product and rate."""


def run(rounds: int, quick: bool) -> StageResult:
    """Measure at each rate in turns, then the faults."""
    install.check("node", "npm", "go")
    for needed in (install.fleet, install.telegraf, install.thingsboard):
        needed()
    layouts = LAYOUTS[1:2] if quick else LAYOUTS
    seconds = 3.0 if quick else max(SHORTEST_S, STEADY_S / rounds)
    pace = faults.Pace(calm=2, away=6, ill=4, back=10) if quick else faults.Pace()
    with workplace() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken = runner.run(_measured(folder, layouts, rounds, seconds))
        if py_spy() is not None and not quick:
            runner.run(_profiled(folder / "profile", layouts))
        lost = runner.run(faults.judged(folder / "faults", pace))
    return _result(taken, lost, rounds, seconds)


async def _measured(folder: Path, layouts: Sequence[Layout], rounds: int, seconds: float) -> Taken:
    taken: dict[str, dict[int, Turns]] = {name: defaultdict(Turns) for name in PRODUCTS}
    for nth in range(rounds):
        for layout in layouts:
            for name, peer in PRODUCTS.items():
                place = folder / f"{nth}-{layout.rate}-{name}"
                async with line(peer, layout, place) as at_work:
                    turns = taken[name][layout.rate]
                    turns.starts_s.append(await at_work.until_all_are_read())
                    turns.steady.append(await at_work.steady(seconds))
    return taken


async def _profiled(folder: Path, layouts: Sequence[Layout]) -> None:
    """Write where the time of our gateway goes at each rate."""
    OUT.mkdir(exist_ok=True)
    for layout in layouts:
        async with line(None, layout, folder / str(layout.rate)) as at_work:
            await at_work.until_all_are_read()
            await asyncio.sleep(SAMPLED_S / 2)
            with sampled({OURS: at_work.process.pid}, folder) as written:
                await asyncio.sleep(SAMPLED_S)
        text = table(written[OURS].read_text("utf-8"))
        (OUT / f"peers-{layout.rate}.txt").write_text(text, "utf-8")


def _result(
    taken: Taken, lost: Mapping[str, Mapping[str, faults.Told]], rounds: int, seconds: float
) -> StageResult:
    ours, most = taken[OURS], max(taken[OURS])
    ratios = {
        name: {str(rate): _short(ours[rate].cpu / turns.cpu) for rate, turns in rates.items()}
        for name, rates in taken.items()
        if name != OURS
    }
    told = {
        name: {str(rate): turns.to_json() for rate, turns in rates.items()}
        for name, rates in taken.items()
    }
    return StageResult(
        stage="peers",
        metric="cpu_us_per_1000",
        ratio=max(ratios["telegraf"].values()),
        better="lower",
        rate=_rate(ours[most], seconds),
        baseline_rate=_rate(taken["telegraf"][most], seconds),
        cpu_us_per_1000=ours[most].cpu,
        bytes_per_reading=None,
        rounds=rounds,
        ours={
            "path": "Modbus TCP, outbox, link over TLS, settled; `python -m edge run`",
            "seconds_a_turn": seconds,
            "by_rate": told[OURS],
            "cpu_ratio": ratios,
            "faults": lost,
        },
        baseline={
            "fleet": f"modbus-serial {install.MODBUS_SERIAL}, ten units at one address",
            **{
                name: {"version": peer.version, "by_rate": told[name]}
                for name, peer in PRODUCTS.items()
                if peer is not None
            },
        },
    )


def _rate(turns: Turns, seconds: float) -> float:
    return median((one.verdict.read - one.verdict.lost) / seconds for one in turns.steady)


def _short(figure: float) -> float:
    return float(f"{figure:.3g}")
