"""What each product loses when its sink is away, when it is killed, and when units are ill."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.rig.layout import Layout
from bench.rig.line import Line, line
from bench.rig.products import Peer, telegraf, thingsboard

LAYOUT: Final = Layout(10)
SILENT: Final = 3
REFUSING: Final = 7
VARIANTS: Final[Mapping[str, Peer | None]] = {
    "spine": None,
    "telegraf": telegraf(),
    "telegraf, disk buffer": telegraf(is_durable=True),
    "thingsboard-gateway": thingsboard(),
    "thingsboard-gateway, SQLite": thingsboard(is_durable=True),
}
Told = dict[str, object]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes, in seconds."""

    calm: float = 10.0
    away: float = 60.0
    ill: float = 20.0
    back: float = 60.0
    """The longest that what waited may take to the sink."""


async def judged(folder: Path, pace: Pace) -> dict[str, dict[str, Told]]:
    """Do every fault to every product, all products at once; gives what each lost, by fault."""
    scenes: Mapping[str, Callable[[Line, Pace], Awaitable[Told]]] = {
        "sink_away": _sink_away,
        "sink_away_and_killed": _killed,
        "units_ill": _units_ill,
    }
    told: dict[str, dict[str, Told]] = {}
    for nth, (scene, play) in enumerate(scenes.items()):

        async def played(
            name: str,
            place: Path,
            play: Callable[[Line, Pace], Awaitable[Told]] = play,
        ) -> Told:
            async with line(VARIANTS[name], LAYOUT, place) as at_work:
                await at_work.until_all_are_read()
                return await play(at_work, pace)

        places = {name: folder / f"{nth}-{at}" for at, name in enumerate(VARIANTS)}
        done = await asyncio.gather(*(played(name, place) for name, place in places.items()))
        told[scene] = dict(zip(places, done, strict=True))
    return told


async def _sink_away(at_work: Line, pace: Pace) -> Told:
    return await _outage(at_work, pace, is_killed=False)


async def _killed(at_work: Line, pace: Pace) -> Told:
    return await _outage(at_work, pace, is_killed=True)


async def _outage(at_work: Line, pace: Pace, *, is_killed: bool) -> Told:
    """Take the sink away, and kill the product and start it again in the midst of that."""
    await asyncio.sleep(pace.calm)
    begin = at_work.fleet.now_ms()
    await at_work.sink.stop()
    await asyncio.sleep(pace.away / 2)
    if is_killed:
        await at_work.process.kill()
        await at_work.process.start()
    await at_work.process.keep_up(pace.away / 2)
    await at_work.sink.start()
    await at_work.process.keep_up(pace.calm)
    end = at_work.fleet.now_ms()
    return (await at_work.settled((begin, end), pace.back)).to_json()


async def _units_ill(at_work: Line, pace: Pace) -> Told:
    """Let one unit fall silent, then another one refuse; judge the others, and the way back."""
    told: Told = {}
    for name, unit in (("silent", SILENT), ("refuse", REFUSING)):
        await asyncio.sleep(pace.calm)
        begin = at_work.fleet.now_ms()
        at_work.fleet.say(f"{name} {unit}")
        await asyncio.sleep(pace.ill)
        healed = at_work.fleet.now_ms()
        at_work.fleet.say("heal")
        await asyncio.sleep(pace.ill)
        others = [one for one in at_work.fleet.layout.units if one != unit]
        verdict = await at_work.settled((begin, healed), pace.calm)
        others_verdict = at_work.judged((begin, healed), others)
        again = [
            at_ms for one, _, at_ms in at_work.fleet.served() if one == unit and at_ms > healed
        ]
        told[name] = {
            "lost": verdict.lost,
            "others": others_verdict.to_json(),
            "read_again_after_s": round((min(again) - healed) / 1_000, 1) if again else None,
        }
    return told
