"""The upkeep of the log: every project has its topics, also after the log has lost its disk."""

import asyncio
from typing import Final

from central.messaging.log import Log, LogAway
from central.messaging.topics import TopicKind, topic
from central.storage.catalogue import list_projects
from central.storage.database import DatabaseAway, Pool
from shared import logs
from shared.errors import SpineError

LOOK_S: Final = 2.0
EVERY: Final = 5
"""All topics are looked at each fifth time; those of a new project at once."""
_log = logs.get("messaging")


class Upkeep:
    """Makes the topics of every project where they are missing."""

    def __init__(self, pool: Pool, log: Log, look_s: float = LOOK_S) -> None:
        self._pool = pool
        self._log = log
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
        names = {
            topic(project.slug, kind)
            for project in await list_projects(self._pool)
            for kind in TopicKind
        }
        for name in sorted(names if is_whole else names - self._kept.keys()):
            await self._log.create_topic(name)
            self._note_life(name, await self._log.log_id(name))

    async def tell(self) -> str:
        """Tell how it goes, for /readyz; raises what is the matter."""
        if self._problem is not None:
            raise self._problem
        return f"{len(self._kept)} topics are there"

    def _note_life(self, name: str, log_id: str) -> None:
        before = self._kept.get(name)
        if before is not None and before != log_id:
            _log.warning("a topic has a new life: its records were lost", topic=name)
        self._kept[name] = log_id

    def _note_trouble(self, error: SpineError) -> None:
        if self._problem is None:
            _log.warning("the upkeep of the log waits", problem=str(error))
        self._problem = error

    def _note_well(self) -> None:
        if self._problem is not None:
            _log.info("the upkeep of the log goes on")
        self._problem = None
