"""Makes the mayhem of a run: each act on its own, drawn from one seed."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final

from tests.chaos.mayhem import IN_START_SHARE, Lives, Mayhem
from tests.chaos.proxy import Direction
from tests.chaos.service import ChaosFailed, Service, until
from tests.chaos.stack import Stack
from tests.chaos.victim import Killer, Victim
from tests.chaos.wipe import LINK_S, Wipe, is_linked

WIPE_S: Final = 180.0
TELL_S: Final = 30.0
WATCH_S: Final = 45.0
"""How long nothing else goes wrong after a server was lost for good."""

RIVAL_S: Final = 60.0

ENDING: Final = ("turn", "log", "loss")
"""Acts that come to an end by themselves where rounds are counted."""

CUTS: Final = ((Direction.UP,), (Direction.DOWN,), tuple(Direction))

Act = Callable[[random.Random], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Chaos:
    """Makes mayhem with a stack until it is over; then everything is up again."""

    stack: Stack
    mayhem: Mayhem
    seed: int
    tell: Callable[[str], None] = lambda _: None
    """Is told now and then how far things are."""
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    """One an act, held while its victim is down or coming up, so that others can have peace."""
    _lost: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Make mayhem; everything runs and is ready before and after, but what was lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.mayhem.lasts_s), asyncio.TaskGroup() as group:
                tasks = {
                    name: group.create_task(act(random.Random(f"{self.seed}/{name}")), name=name)
                    for name, act in self._acts().items()
                }
                if self.mayhem.rounds is not None:
                    await asyncio.wait([tasks[name] for name in ENDING if name in tasks])
                    for task in tasks.values():
                        task.cancel()
        await self._all_up()
        self.stack.proxy.fates.is_calm = True
        self.stack.proxy.hang_up()

    @property
    def _killer(self) -> Killer:
        return Killer(self.stack.journal)

    def _acts(self) -> dict[str, Act]:
        mayhem, rival = self.mayhem, self.stack.central.rival
        own = [victim for victim in self.stack.victims if victim.name in mayhem.lives]
        acts: dict[str, Act] = {
            victim.name: partial(self._kill_again, victim, mayhem.lives[victim.name])
            for victim in own
        }
        acts |= {"line": self._cut_line, "progress": self._tell}
        if mayhem.turn_s is not None:
            acts["turn"] = self._kill_in_turn
        if mayhem.wipe_after_s is not None:
            acts["log"] = partial(self._wipe_log, mayhem.wipe_after_s)
        if mayhem.lose_after_s is not None:
            acts["loss"] = partial(self._lose, mayhem.lose_after_s)
        if mayhem.fights is not None and rival is not None:
            acts["rival"] = partial(self._fight, rival)
        return acts

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    @asynccontextmanager
    async def _peace(self) -> AsyncIterator[None]:
        """Let nothing go wrong, and have everything up, for as long as the block lasts."""
        async with AsyncExitStack() as held:
            for name in ("line", "turn", "rival", *sorted(self.mayhem.lives)):
                await held.enter_async_context(self._lock(name))
            await self._all_up()
            yield

    async def _all_up(self) -> None:
        for victim in (*self.stack.central.servers, *self.stack.central.modules):
            if victim.name not in self._lost:
                await self._killer.up(victim)
        await self._killer.up(self.stack.gateway)

    async def _tell(self, _: random.Random) -> None:
        begun_s = time.monotonic()
        while True:
            await asyncio.sleep(TELL_S)
            counts = self.stack.journal.counts
            names = sorted(name for name in counts if name.endswith("_killed"))
            kills = ", ".join(f"{name.replace('_', ' ')} {counts[name]}" for name in names)
            done_s = time.monotonic() - begun_s
            self.tell(f"{done_s:.0f} s of {self.mayhem.lasts_s:.0f}: {kills}")

    async def _kill_again(self, victim: Victim, lives: Lives, rng: random.Random) -> None:
        while True:
            if rng.random() < lives.in_start_share:
                await asyncio.sleep(rng.uniform(0.1, 2.0))
            else:
                await self._killer.ready(victim)
                await asyncio.sleep(rng.uniform(lives.shortest_s, lives.longest_s))
            async with self._lock(victim.name):
                await self._killer.kill(victim)
                await victim.start()

    async def _kill_in_turn(self, rng: random.Random) -> None:
        """Kill one after the other in rounds; the next when the former works again."""
        assert self.mayhem.turn_s is not None
        for _ in count() if self.mayhem.rounds is None else range(self.mayhem.rounds):
            for victim in rng.sample(self._in_turn(), len(self._in_turn())):
                await asyncio.sleep(rng.uniform(*self.mayhem.turn_s))
                async with self._lock("turn"):
                    if victim.name not in self._lost:
                        await self._kill_once(victim, rng)

    def _in_turn(self) -> Sequence[Victim]:
        return [
            victim
            for victim in self.stack.victims
            if victim.name not in self.mayhem.lives and victim.name not in self._lost
        ]

    async def _kill_once(self, victim: Victim, rng: random.Random) -> None:
        await self._killer.kill(victim)
        await victim.start()
        if isinstance(victim, Service) and rng.random() < IN_START_SHARE:
            await asyncio.sleep(rng.uniform(0.1, 2.0))
            await self._killer.kill(victim)
            await victim.start()
        await self._killer.ready(victim)

    async def _cut_line(self, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.uniform(*self.mayhem.line_holds_s))
            directions = rng.choice(CUTS)
            async with self._lock("line"), self.stack.proxy.cut(*directions):
                self.stack.journal.note("line_cut", directions=directions)
                await asyncio.sleep(rng.uniform(*self.mayhem.cut_s))
            if rng.random() < 0.5:
                self.stack.proxy.hang_up()
            self.stack.journal.note("line_up")

    async def _fight(self, rival: Service, rng: random.Random) -> None:
        """Let a writer without a lease write beside the one that has it, and kill it."""
        assert self.mayhem.fights is not None
        while True:
            await asyncio.sleep(rng.uniform(*self.mayhem.fights.away_s))
            async with self._lock("rival"):
                self.stack.journal.note("rival_started")
                try:
                    said = rival.said_bytes
                    await rival.start()
                    await until(partial(_says_more, rival, said), "the rival at work", RIVAL_S)
                    await asyncio.sleep(rng.uniform(*self.mayhem.fights.lasts_s))
                finally:
                    await self._end_fight(rival)

    async def _end_fight(self, rival: Service) -> None:
        if not rival.is_running:
            raise ChaosFailed(f"the rival ended by itself; see {rival.log}")
        await self._killer.kill(rival)

    async def _wipe_log(self, after_s: float, _: random.Random) -> None:
        await asyncio.sleep(after_s)
        async with self._peace():
            await until(self._wipe, "the log wiped", WIPE_S)

    async def _wipe(self) -> bool:
        await self._all_up()
        return await Wipe(self.stack, self._killer).run()

    async def _lose(self, after_s: float, _: random.Random) -> None:
        """Kill the log's leader for good, and let nothing else go wrong for a while."""
        await asyncio.sleep(after_s)
        async with self._peace():
            await until(lambda: is_linked(self.stack), "the gateway connected", LINK_S)
            victim = await self.stack.central.leader()
            self._lost.add(victim.name)
            self.stack.journal.note("server_lost", name=victim.name)
            await victim.kill()
            await asyncio.sleep(WATCH_S)
            self.stack.journal.note("loss_watched")


async def _says_more(service: Service, said_bytes: int) -> bool:
    return service.said_bytes > said_bytes
