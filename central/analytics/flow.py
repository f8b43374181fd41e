"""The flow: the live lanes of all projects, each followed from the log."""

import asyncio
from typing import Final

from central.analytics.follower import Follower, Source
from central.analytics.metrics import FlowMetrics
from central.storage.catalogue import list_projects
from central.storage.database import DatabaseAway, Pool
from shared import logs

LOOK_S: Final = 2.0
FAR_BEHIND: Final = 100
MOST_NAMED: Final = 5
_log = logs.get("analytics")


class Flow:
    """Follows every project, a new one within seconds; counts what is received from now on."""

    def __init__(self, pool: Pool, source: Source, metrics: FlowMetrics) -> None:
        self._pool = pool
        self._source = source
        self._metrics = metrics
        self._since_us = source.clock.now_us()
        self._followers: dict[str, Follower] = {}
        self._away: DatabaseAway | None = None

    async def run(self) -> None:
        """Follow until cancelled; while the database is away no new project is found."""
        running: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._look()
                for project, follower in self._followers.items():
                    if project not in running:
                        running.add(project)
                        group.create_task(follower.run(), name=f"follower {project}")
                for follower in self._followers.values():
                    await follower.measure()
                await asyncio.sleep(LOOK_S)

    async def tell(self) -> str:
        """Tell how it goes, for /readyz; raises the error of a project that cannot be followed."""
        for follower in self._followers.values():
            if follower.problem is not None:
                raise follower.problem
        far = [
            f"{project} by {follower.behind} records"
            for project, follower in self._followers.items()
            if follower.behind > FAR_BEHIND
        ]
        state = f"behind: {', '.join(far[:MOST_NAMED])}" if far else "live"
        return f"projects: {len(self._followers)}, {state}"

    async def _look(self) -> None:
        try:
            projects = await list_projects(self._pool)
        except DatabaseAway as error:
            if self._away is None:
                _log.warning("new projects wait: the database is away", problem=str(error))
            self._away = error
            return
        if self._away is not None:
            _log.info("the database is back; new projects are found again")
        self._away = None
        for project in projects:
            if project.slug not in self._followers:
                self._followers[project.slug] = Follower(
                    self._source, project.slug, self._metrics, self._since_us
                )
