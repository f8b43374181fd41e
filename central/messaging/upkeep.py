"""The upkeep of the log: every project has its topics, also after the log has lost its disk.

It also tells how far the writer is behind, for nobody else sees both the log and all positions.
"""

import asyncio
from typing import Final

from central.messaging.log import PARTITION, Log, LogAway
from central.messaging.metrics import MessagingMetrics
from central.messaging.topics import TopicKind, topic
from central.storage.catalogue import list_projects
from central.storage.database import DatabaseAway, Pool
from central.storage.positions import load_position
from shared import logs
from shared.errors import SpineError

LOOK_S: Final = 2.0
EVERY: Final = 5
"""All topics are looked at each fifth time; those of a new project at once."""
_log = logs.get("messaging")


class Upkeep:
    """Makes the topics of every project where they are missing, and measures the backlog."""

    def __init__(
        self, pool: Pool, log: Log, metrics: MessagingMetrics, look_s: float = LOOK_S
    ) -> None:
        self._pool = pool
        self._log = log
        self._metrics = metrics
        self._look_s = look_s
        self._kept: dict[str, str] = {}
        self._problem: SpineError | None = None

    async def run(self) -> None:
        """Look until cancelled; an outage is logged once, and its end once."""
        looks = 0
        while True:
            try:
                await self.look(is_whole=looks % EVERY == 0)
            except (LogAway, DatabaseAway) as error:
                self._note_trouble(error)
            else:
                self._note_well()
                looks += 1
            await asyncio.sleep(self._look_s)

    async def look(self, *, is_whole: bool = True) -> None:
        """Make what is missing: of all projects, or only of those not seen before."""
        for project in await list_projects(self._pool):
            for name in (topic(project.slug, kind) for kind in TopicKind):
                if is_whole or name not in self._kept:
                    await self._keep(project.slug, name)

    async def _keep(self, project: str, name: str) -> None:
        await self._log.create_topic(name)
        end = await self._log.end(name, PARTITION)
        written = await load_position(self._pool, project, name, PARTITION)
        self._metrics.note_behind(name, end.waiting(written))
        self._note_life(name, end.log_id)

    async def tell(self) -> str:
        """Tell how it goes, for /readyz; raises what is the matter."""
        if self._problem is not None:
            raise self._problem
        return f"{len(self._kept)} topics are there"

    def _note_life(self, name: str, log_id: str) -> None:
        before = self._kept.get(name)
        if before is not None and before != log_id:
            _log.warning("a topic has a new life: its records were lost", topic=name)
            self._metrics.note_lost()
        self._kept[name] = log_id

    def _note_trouble(self, error: SpineError) -> None:
        if self._problem is None:
            _log.warning("the upkeep of the log waits", problem=str(error))
        self._problem = error

    def _note_well(self) -> None:
        if self._problem is not None:
            _log.info("the upkeep of the log goes on")
        self._problem = None
