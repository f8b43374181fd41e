"""The database central works with: the one it is given, or one of its own under its data folder."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from central.settings import Settings, variable
from central.storage.database import DatabaseAway
from central.storage.embedded import embedded_postgres
from central.storage.migrate import migrate
from shared.backoff import Backoff
from shared.errors import SettingsError
from shared.logs import get

logger = get("central")


@dataclass(frozen=True, slots=True)
class Database:
    """Where the service and, if that is known, the owner connect; what watches over it."""

    dsn: str
    owner_dsn: str | None
    watch: Callable[[], Awaitable[None]] | None = None

    def as_owner(self) -> str:
        """Give the owner's DSN. Raises `SettingsError` where it is not known."""
        if self.owner_dsn is None:
            problem = f"{variable('owner_dsn')} is needed for this, beside {variable('dsn')}"
            raise SettingsError("settings", [problem])
        return self.owner_dsn


@contextlib.asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Database]:
    """Give the database, up to date where its owner is known; waits for one that is away."""
    if settings.dsn is not None:
        owner = settings.owner_dsn.get_secret_value() if settings.owner_dsn else None
        if owner is not None:
            await _bring_up_to_date(owner)
        yield Database(settings.dsn.get_secret_value(), owner)
        return
    async with embedded_postgres(settings.data / "postgres") as postgres:
        await _bring_up_to_date(postgres.owner_dsn())
        yield Database(postgres.service_dsn(), postgres.owner_dsn(), postgres.watch)


async def _bring_up_to_date(owner_dsn: str) -> None:
    backoff = Backoff()
    while True:
        try:
            await migrate(owner_dsn)
        except DatabaseAway as error:
            if backoff.failures == 0:
                logger.warning("waiting for the database", error=str(error))
            await asyncio.sleep(backoff.next_s())
        else:
            return
