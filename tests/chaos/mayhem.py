"""What goes wrong in a run, when: kills, cuts, a wiped log; all drawn from one seed."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from central.messaging import PostgresLog
from central.messaging.log import LogAway
from central.storage.database import DatabaseAway, project_transaction
from tests.chaos.proxy import Direction
from tests.chaos.service import Service, ask, until
from tests.chaos.stack import PROJECT, Stack

HOLD_S: Final = 4.5
"""How long the writer is held before the log is wiped: longer than a gateway needs to delete."""

WORTH_IT: Final = 5
"""A wipe that destroys fewer records is put off: about as many come in the last second."""

WIPE_S: Final = 90.0
TELL_S: Final = 30.0
VICTIMS: Final = ("gateway", "central", "postgres")
LINK_S: Final = 45.0

CUTS: Final = ((Direction.UP,), (Direction.DOWN,), tuple(Direction))
QUIET_END_S: Final = 15.0
"""No device fault begins so shortly before the end."""

FAULTS: Final = {
    "meter1": ("silent", "exception", "stuck"),
    "meter3": ("refuse", "nan", "short"),
    "inverter1": ("refuse", "silent", "exception"),
    "vav1": ("silent", "exception", "nan"),
    "room2": ("refuse", "stuck", "nan"),
    "room7": ("silent", "nan"),
}
"""What can go wrong with which device."""

IN_START_SHARE: Final = 0.15
"""So many kills hit a process that has not become ready yet."""


@dataclass(frozen=True, slots=True)
class Mayhem:
    """How often what happens, in seconds; pairs are the shortest and the longest pause."""

    lasts_s: float
    gateway_lives_s: tuple[float, float] = (4.0, 11.0)
    central_lives_s: tuple[float, float] = (3.0, 9.0)
    line_holds_s: tuple[float, float] = (4.0, 12.0)
    cut_s: tuple[float, float] = (1.0, 5.0)
    postgres_lives_s: tuple[float, float] = (60.0, 120.0)
    wipe_after_s: float = 60.0


@dataclass(slots=True)
class Chaos:
    """Makes mayhem with a stack until it is over; then everything is up again."""

    stack: Stack
    mayhem: Mayhem
    seed: int
    tell: Callable[[str], None] = lambda _: None
    """Is told now and then how far things are."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever kills something right now, so that the wipe can have a moment of peace."""
    _line: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Make mayhem; the gateway and central run and are ready before and after."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.mayhem.lasts_s), asyncio.TaskGroup() as group:
                for name, act in self._acts().items():
                    group.create_task(act(random.Random(f"{self.seed}/{name}")), name=name)
        for service in (self.stack.central, self.stack.gateway):
            await self._up(service)
        self.stack.proxy.fates.is_calm = True
        self.stack.proxy.hang_up()

    def _acts(self) -> dict[str, Callable[[random.Random], Coroutine[Any, Any, None]]]:
        return {
            "gateway": self._kill_gateway,
            "central": self._kill_central,
            "line": self._cut_line,
            "postgres": self._kill_postgres,
            "log": self._wipe_log,
            "progress": self._tell,
        }

    async def _tell(self, _: random.Random) -> None:
        begun_s = time.monotonic()
        while True:
            await asyncio.sleep(TELL_S)
            counts = self.stack.journal.counts
            kills = ", ".join(f"{name} killed {counts[f'{name}_killed']}" for name in VICTIMS)
            done_s = time.monotonic() - begun_s
            self.tell(f"{done_s:.0f} s of {self.mayhem.lasts_s:.0f}: {kills}")

    async def _kill_gateway(self, rng: random.Random) -> None:
        await self._kill_again(self.stack.gateway, rng, self.mayhem.gateway_lives_s)

    async def _kill_central(self, rng: random.Random) -> None:
        await self._kill_again(self.stack.central, rng, self.mayhem.central_lives_s)

    async def _kill_again(
        self, service: Service, rng: random.Random, lives_s: tuple[float, float]
    ) -> None:
        while True:
            await self._live(service, rng, lives_s)
            async with self._turn:
                await self._kill(service)
                await service.start()

    async def _live(
        self, service: Service, rng: random.Random, lives_s: tuple[float, float]
    ) -> None:
        """Let a process live for a while after it is ready, or not even so long."""
        if rng.random() < IN_START_SHARE:
            await asyncio.sleep(rng.uniform(0.1, 2.0))
            return
        await self._ready(service)
        await asyncio.sleep(rng.uniform(*lives_s))

    async def _kill(self, service: Service) -> None:
        self.stack.journal.note(f"{service.name}_killed")
        await service.kill()

    async def _ready(self, service: Service) -> None:
        await service.wait_ready()
        self.stack.journal.note(f"{service.name}_ready")

    async def _up(self, service: Service) -> None:
        """Have a process running and ready, whatever the mayhem left of it."""
        if not service.is_running:
            await service.start()
        await self._ready(service)

    async def _cut_line(self, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.uniform(*self.mayhem.line_holds_s))
            directions = rng.choice(CUTS)
            # The line lock is the wipe's: others may go on breaking things while the line is cut.
            async with self._line, self.stack.proxy.cut(*directions):
                self.stack.journal.note("line_cut", directions=directions)
                await asyncio.sleep(rng.uniform(*self.mayhem.cut_s))
            if rng.random() < 0.5:
                self.stack.proxy.hang_up()
            self.stack.journal.note("line_up")

    async def _kill_postgres(self, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.uniform(*self.mayhem.postgres_lives_s))
            async with self._turn:
                server = _postmaster(self.stack)
                if server is not None:
                    self.stack.journal.note("postgres_killed")
                    server.kill()

    async def _wipe_log(self, _: random.Random) -> None:
        await asyncio.sleep(self.mayhem.wipe_after_s)
        async with self._line, self._turn:
            await until(self._wipe, "the log wiped", WIPE_S)

    async def _wipe(self) -> bool:
        """Wipe the log with central down while it has what the database has not; tell if so.

        Until then the writer is held by a lock on a table it must change, so that what central
        accepts stays in the log alone, for long enough that a gateway that deletes on `accepted`
        has done so.
        """
        stack = self.stack
        await self._up(stack.central)
        await self._up(stack.gateway)
        try:
            async with project_transaction(stack.pool, PROJECT) as held:
                await held.execute("LOCK TABLE settled IN EXCLUSIVE MODE")
                await until(self._is_linked, "the gateway connected", LINK_S)
                await asyncio.sleep(HOLD_S)
                waiting = await _waiting(stack)
                if waiting < WORTH_IT:
                    return False
                await self._kill(stack.central)
                await PostgresLog(stack.pool).wipe()
                stack.journal.note("log_wiped", records=waiting)
        except (DatabaseAway, LogAway):
            return False
        await stack.central.start()
        return True

    async def _is_linked(self) -> bool:
        answer = await ask(self.stack.gateway.ready_url)
        return answer is not None and bool(answer["link"]["connected"])


async def _waiting(stack: Stack) -> int:
    """Count the records of readings in the log that the writer has not written."""
    async with stack.pool.transaction() as connection:
        rows = await connection.fetch("SELECT topic, log_id, next_offset FROM log.topics")
    async with project_transaction(stack.pool, PROJECT) as connection:
        positions = await connection.fetch("SELECT topic, log_id, next_offset FROM log_positions")
    written = {(row["topic"], row["log_id"]): row["next_offset"] for row in positions}
    return sum(
        row["next_offset"] - written.get((row["topic"], row["log_id"]), 0)
        for row in rows
        if row["topic"].endswith((".readings", ".backfill"))
    )


def _postmaster(stack: Stack) -> psutil.Process | None:
    """Find central's Postgres; only a process that works in the run's own folder is taken."""
    try:
        first = (stack.postgres_folder / "postmaster.pid").read_text().splitlines()[0]
        server = psutil.Process(int(first))
        is_ours = server.cwd() == str(stack.postgres_folder.resolve())
    except (OSError, ValueError, IndexError, psutil.Error):
        return None
    return server if is_ours else None


def draw_faults(seed: int, lasts_s: float) -> dict[str, Any]:
    """Draw the building's timetable of faults: short ones, the last over well before the end."""
    rng = random.Random(f"{seed}/faults")
    faults = []
    for device, kinds in FAULTS.items():
        at_s = rng.uniform(5.0, 40.0)
        while at_s < lasts_s - QUIET_END_S:
            for_s = rng.uniform(1.0, 3.0)
            fault = rng.choice(kinds)
            faults.append({"device": device, "fault": fault, "at_s": at_s, "for_s": for_s})
            at_s += for_s + rng.uniform(20.0, 60.0)
    return {"faults": faults}
