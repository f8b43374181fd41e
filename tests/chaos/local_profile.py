"""The local profile: all of central in one process, with a Postgres of its own that has the log."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from central.messaging import PostgresLog
from central.storage.database import open_pool
from central.storage.embedded import embedded_postgres
from tests.chaos.mayhem import Lives, Mayhem
from tests.chaos.pace import Pace
from tests.chaos.profile import Central
from tests.chaos.service import LOOPBACK, ChaosFailed, Service, free_port
from tests.chaos.timetable import Thresholds
from tests.chaos.victim import Victim

WIPE_SHARE: Final = 0.4
"""The log is wiped after this share of a run."""


@dataclass(frozen=True, slots=True)
class LocalProfile:
    """`python -m central all`, killed as one."""

    name: str = "local"
    pace: Pace = field(default_factory=Pace)

    def thresholds(self, kills: int | None = None) -> Thresholds:
        """Ask for kills of the gateway and of central; Postgres is killed now and then."""
        return Thresholds() if kills is None else Thresholds(kills=kills)

    def mayhem(self, lasts_s: float) -> Mayhem:
        """Give each victim lives of its own."""
        lives = {
            "gateway": Lives(4.0, 11.0),
            "central": Lives(3.0, 9.0),
            "postgres": Lives(60.0, 120.0, in_start_share=0.0),
        }
        return Mayhem(lasts_s, lives, wipe_after_s=lasts_s * WIPE_SHARE)

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Central]:
        """Start Postgres."""
        home = folder / "central" / "postgres"
        async with AsyncExitStack() as stack:
            postgres = await stack.enter_async_context(embedded_postgres(home))
            pool = await stack.enter_async_context(open_pool(postgres.service_dsn(), "chaos", 3))
            log = PostgresLog(pool)
            page_port, link_port, enrol_port = (free_port() for _ in range(3))
            words = ["central", "all", "--data", str(folder / "central")]
            words += ["--port", str(page_port), "--link-port", str(link_port)]
            words += ["--enrol-port", str(enrol_port)]
            central = Service("central", words, folder, f"http://{LOOPBACK}:{page_port}/readyz")
            stack.push_async_callback(central.kill)
            yield Central(
                modules=(central,),
                writers=(central,),
                servers=(EmbeddedServer(home / "data"),),
                log_servers=(),
                pool=pool,
                log=log,
                wipe=log.wipe,
                leader=_no_leader,
                link_port=link_port,
                enrol_port=enrol_port,
            )

    @asynccontextmanager
    async def database(self, folder: Path) -> AsyncIterator[str]:
        """Start the run's Postgres again for the time of reading."""
        async with embedded_postgres(folder / "central" / "postgres") as postgres:
            yield postgres.service_dsn()


async def _no_leader() -> Victim:
    raise ChaosFailed("the log of the local profile has no server of its own to lose")


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """Central's own Postgres, which central starts again when it has died."""

    data: Path
    name: str = "postgres"

    @property
    def is_running(self) -> bool:
        """Tell whether there is a server to kill."""
        return self._postmaster() is not None

    async def start(self) -> None:
        """Leave it to central."""

    async def wait_ready(self) -> None:
        """Leave it to central, whose readiness says so."""

    async def kill(self) -> None:
        """Kill it; central finds out by itself."""
        server = self._postmaster()
        if server is not None:
            server.kill()

    def _postmaster(self) -> psutil.Process | None:
        """Find the server; only a process that works in the run's own folder is taken."""
        try:
            first = (self.data / "postmaster.pid").read_text().splitlines()[0]
            server = psutil.Process(int(first))
            is_ours = server.cwd() == str(self.data.resolve())
        except (OSError, ValueError, IndexError, psutil.Error):
            return None
        return server if is_ours else None
