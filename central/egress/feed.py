"""New latest values of projects that somebody watches: one look a project feeds all its clients.

A look reads the project's settled clock and, only where it moved, the table of latest values; what
differs from the look before is the delta. So what clients see always converges to the database,
whatever the order in which batches arrived.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from central.egress.latest import write_latest
from central.storage.catalogue import PointRow, points_by_id
from central.storage.database import DatabaseAway, Pool, project_transaction
from shared.clock import Clock
from shared.logs import get

REST: Final = 9.0
"""A look that took t seconds is followed by at least nine times t of rest."""

_CLOCK: Final = "SELECT version FROM settled_clock"
_ALL: Final = "SELECT point_id, observed_at, received_at, value, quality, text FROM latest"

Delta = list[dict[str, Any]]
logger = get("egress.live")


class Client:
    """One watcher: at most `size` deltas wait; when more come they are dropped and it lags.

    A client that lags is told so and given a snapshot, so it misses intermediate values only.
    """

    def __init__(self, size: int) -> None:
        self._waiting: asyncio.Queue[Delta] = asyncio.Queue(size)
        self._dropped = 0

    def offer(self, delta: Delta) -> None:
        """Let a delta wait, or drop all that wait and count them."""
        try:
            self._waiting.put_nowait(delta)
        except asyncio.QueueFull:
            while not self._waiting.empty():
                self._waiting.get_nowait()
                self._dropped += 1
            self._waiting.put_nowait(delta)

    def forget(self) -> None:
        """Forget what waits: the snapshot that is sent next has it."""
        while not self._waiting.empty():
            self._waiting.get_nowait()

    async def next(self) -> tuple[Delta, int]:
        """Wait for a delta; with it, how many were dropped since the last call."""
        delta = await self._waiting.get()
        dropped, self._dropped = self._dropped, 0
        return delta, dropped


@dataclass
class Watched:
    """What is known of one project while somebody watches it."""

    project_id: int
    project: str
    version: int = -1
    points: dict[int, PointRow] = field(default_factory=dict)
    rows: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    clients: set[Client] = field(default_factory=set)
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    due_s: float = 0.0

    def snapshot(self) -> Delta:
        """Write all latest values."""
        return [self.write(row) for row in self.rows.values() if row["point_id"] in self.points]

    def write(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Write one latest value in its JSON form."""
        return write_latest(self.points[row["point_id"]], row).model_dump(
            mode="json", by_alias=True
        )


class LatestFeed:
    """Looks for new latest values of all watched projects, and feeds their clients."""

    def __init__(self, pool: Pool, clock: Clock, poll_s: float, queue: int) -> None:
        self._pool = pool
        self._clock = clock
        self._poll_s = poll_s
        self._queue = queue
        self._watched: dict[int, Watched] = {}
        self._away = False

    def count(self, project_id: int) -> int:
        """Count the clients of a project."""
        watched = self._watched.get(project_id)
        return len(watched.clients) if watched else 0

    @contextlib.asynccontextmanager
    async def watch(self, project_id: int, project: str) -> AsyncIterator[tuple[Watched, Client]]:
        """Watch a project; its snapshot is complete when this gives. Raises `DatabaseAway`."""
        watched = self._watched.setdefault(project_id, Watched(project_id, project))
        client = Client(self._queue)
        watched.clients.add(client)
        try:
            await self._look(watched)
            client.forget()
            yield watched, client
        finally:
            watched.clients.discard(client)
            if not watched.clients:
                self._watched.pop(project_id, None)

    async def run(self) -> None:
        """Look for ever; while the database is away clients keep what they have."""
        while True:
            try:
                for watched in list(self._watched.values()):
                    if watched.due_s <= self._clock.monotonic_s():
                        await self._look(watched)
            except DatabaseAway as error:
                if not self._away:
                    logger.warning("live values wait: the database is away", error=str(error))
                self._away = True
            else:
                if self._away:
                    logger.info("live values flow again: the database is back")
                self._away = False
            await asyncio.sleep(self._poll_s)

    async def _look(self, watched: Watched) -> None:
        async with watched.looking:
            started = self._clock.monotonic_s()
            changed = await self._changes(watched)
            if changed:
                delta = [watched.write(row) for row in changed if row["point_id"] in watched.points]
                for client in watched.clients:
                    client.offer(delta)
            taken_s = self._clock.monotonic_s() - started
            watched.due_s = started + taken_s * (1 + REST)

    async def _changes(self, watched: Watched) -> list[Mapping[str, Any]]:
        async with project_transaction(self._pool, watched.project) as connection:
            version = await connection.fetchval(_CLOCK)
            if version == watched.version:
                return []
            rows: list[Mapping[str, Any]] = await connection.fetch(_ALL)
        changed = [row for row in rows if row != watched.rows.get(row["point_id"])]
        unknown = [row["point_id"] for row in rows if row["point_id"] not in watched.points]
        if unknown:
            watched.points |= await points_by_id(self._pool, watched.project_id, unknown)
        watched.rows = {row["point_id"]: row for row in rows}
        watched.version = version
        return changed
