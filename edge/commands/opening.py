"""Opening the commands of a gateway, or doing without them where their record cannot be read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from edge.commands.commander import Commander
from edge.commands.moments import Times
from edge.commands.store import FILE_NAME, CommandsDamaged, CommandStore, CommandsUnwritable
from edge.commands.way import Way
from shared.logs import get

CLOSED: Final = (
    "commands are off: their record cannot be read, and without it one could be written twice; "
    f"move {FILE_NAME} away and start the gateway anew"
)

_log = get("commands")


@asynccontextmanager
async def opened_commands(folder: Path, way: Way, times: Times) -> AsyncIterator[Commander | None]:
    """Open the commands in `folder`; None where that cannot be done: readings go on without."""
    try:
        store = await asyncio.to_thread(CommandStore, folder / FILE_NAME)
    except (CommandsDamaged, CommandsUnwritable) as error:
        _log.error(CLOSED, problem=str(error))
        yield None
        return
    try:
        yield await _begun(store, way, times)
    finally:
        await asyncio.to_thread(store.close)


async def _begun(store: CommandStore, way: Way, times: Times) -> Commander | None:
    try:
        return await Commander.opened(store, way, times)
    except (CommandsDamaged, CommandsUnwritable) as error:
        _log.error(CLOSED, problem=str(error))
        return None
