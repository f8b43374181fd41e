"""Settled batches for all live sessions: one look a project every 150 ms, told to each session."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from central.ingress.told import Told
from central.storage.catalogue import Gateway
from central.storage.database import DatabaseAway, Pool
from central.storage.settled import SettledRow, read_settled
from shared.link import Settled
from shared.logs import get

logger = get("ingress.receipts")


class Feed:
    """What one session is told of its settled batches; `changed` is set when something is due.

    Nothing queues here: a slow session finds only the newest state.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.told = Told()
        self.changed = asyncio.Event()

    def offer(self, rows: Iterable[SettledRow]) -> None:
        """Take rows of this gateway in."""
        for row in rows:
            if self.told.offer(row):
                self.changed.set()

    def repeat(self, epoch: int, seq: int) -> None:
        """Have a settled seq told again."""
        self.told.repeat(epoch, seq)
        self.changed.set()

    async def next(self) -> tuple[Settled, ...]:
        """Wait until something is due, and give it."""
        await self.changed.wait()
        self.changed.clear()
        return self.told.due()


class ReceiptPoller:
    """Reads settled rows for all live sessions: one query a project and look."""

    def __init__(self, pool: Pool, poll_s: float) -> None:
        self._pool = pool
        self._poll_s = poll_s
        self._feeds: dict[str, dict[int, Feed]] = {}
        self._versions: dict[str, int] = {}
        self._away = False

    @contextlib.asynccontextmanager
    async def feed(self, gateway: Gateway) -> AsyncIterator[Feed]:
        """Follow a gateway while its session lives; a newer session takes the place of an older."""
        feed = Feed(gateway)
        feeds = self._feeds.setdefault(gateway.project, {})
        feeds[gateway.gateway_id] = feed
        try:
            yield feed
        finally:
            if feeds.get(gateway.gateway_id) is feed:
                del feeds[gateway.gateway_id]

    async def follow(self, feed: Feed, epochs: Iterable[int]) -> None:
        """Read what is settled of these epochs now, and follow them from here on.

        Raises `DatabaseAway`.
        """
        new = [epoch for epoch in epochs if not feed.told.knows(epoch)]
        if not new:
            return
        # Followed first: what settles while the rows are read then reaches the feed as well.
        for epoch in new:
            feed.told.follow(epoch)
        gateway = feed.gateway
        try:
            rows = await read_settled(self._pool, gateway.project, gateway.gateway_id, new)
        except DatabaseAway:
            feed.told.unfollow(new)
            raise
        feed.offer(rows)

    async def run(self) -> None:
        """Look for ever; while the database is away keep trying, and log that once."""
        while True:
            try:
                await self._look()
            except DatabaseAway as error:
                if not self._away:
                    logger.warning("receipts wait: the database is away", error=str(error))
                self._away = True
            else:
                if self._away:
                    logger.info("receipts flow again: the database is back")
                self._away = False
            await asyncio.sleep(self._poll_s)

    async def _look(self) -> None:
        for project, feeds in list(self._feeds.items()):
            if feeds:
                await self._look_into(project, feeds)

    async def _look_into(self, project: str, feeds: dict[int, Feed]) -> None:
        rows = await read_settled(self._pool, project, after_version=self._versions.get(project, 0))
        for row in rows:
            if row.gateway_id in feeds:
                feeds[row.gateway_id].offer([row])
            self._versions[project] = row.version
