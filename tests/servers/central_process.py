"""A real central in the test's own loop, on free ports and a fresh database.

The fixtures are in `central_fixtures.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from central import admin
from central.modules import MODULES
from central.process import Running, running
from central.settings import Settings
from tests.servers.link_peer import Credentials, enrol
from tests.servers.postgres import Database

DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True)
class Central:
    """A running central, with a project `demo` and its site `main`."""

    settings: Settings
    running: Running
    database: Database
    folder: Path

    @property
    def link_port(self) -> int:
        return self.running.ports["link"]

    @property
    def enrol_port(self) -> int:
        return self.running.ports["enrol"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.running.ports['human']}"

    async def code(self, gateway: str = "gw1", project: str = "demo") -> str:
        return (await admin.enrol(self.settings, project, "main", gateway)).answer

    async def gateway(self, name: str = "gw1", project: str = "demo") -> Credentials:
        code = await self.code(name, project)
        return await enrol(self.enrol_port, code, self.folder / f"{project}-{name}")

    async def key(self, project: str = "demo") -> str:
        return (await admin.key(self.settings, project, "test")).answer

    @asynccontextmanager
    async def client(self, project: str = "demo") -> AsyncIterator[httpx2.AsyncClient]:
        """Give a client of the human API with a key."""
        headers = {"Authorization": f"Bearer {await self.key(project)}"}
        base = f"{self.url}/api/v1/projects/{project}"
        async with httpx2.AsyncClient(base_url=base, headers=headers) as client:
            yield client


def settings_for(database: Database, folder: Path, **changes: object) -> Settings:
    """Make settings with free ports and short waits."""
    values: dict[str, object] = {
        "data": folder / "central",
        "dsn": database.service_dsn,
        "owner_dsn": database.owner_dsn,
        "port": 0,
        "link_port": 0,
        "enrol_port": 0,
        "health_port": 0,
        "deny_poll_s": 0.1,
        "receipt_poll_s": 0.05,
        "live_poll_s": 0.05,
        "shutdown_s": 1,
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]  # pydantic checks them


@asynccontextmanager
async def running_central(
    database: Database, folder: Path, **changes: object
) -> AsyncIterator[Central]:
    settings = settings_for(database, folder, **changes)
    await admin.setup(settings, "demo", "main")
    async with running(settings, list(MODULES)) as process:
        yield Central(settings, process, database, folder)


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S
) -> None:
    """Wait until a condition holds."""
    try:
        async with asyncio.timeout(deadline_s):
            while not await condition():  # noqa: ASYNC110  # any condition, not an event
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        msg = f"not within {deadline_s:g} s: {what}"
        raise AssertionError(msg) from error
