"""The lost log: wiped while it has what the database has not, so that the gateway must help."""

import asyncio
from dataclasses import dataclass
from typing import Final

from central.messaging import LogAway, TopicKind, topic
from central.storage.database import DatabaseAway, project_transaction
from central.storage.positions import load_position
from tests.chaos.profile import PROJECT
from tests.chaos.service import ask, until
from tests.chaos.stack import Stack
from tests.chaos.victim import Killer

HOLD_S: Final = 4.5
"""How long the writer is held before the log is wiped: longer than a gateway needs to delete."""

WORTH_IT: Final = 5
"""A wipe that destroys fewer records is put off: about as many come in the last second."""

LINK_S: Final = 45.0
PARTITION: Final = 0
READ_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wipe:
    """Wipes the log of a stack in which nothing else goes wrong meanwhile."""

    stack: Stack
    killer: Killer

    async def run(self) -> bool:
        """Wipe with the writers down while records wait in the log alone; tell if so.

        Until then the writers are held by a lock on a table they must change, so that what central
        accepts stays in the log, for long enough that a gateway that deletes on `accepted` has
        done so. They are killed before they are let go.
        """
        central = self.stack.central
        try:
            async with project_transaction(central.pool, PROJECT) as held:
                await held.execute("LOCK TABLE settled IN EXCLUSIVE MODE")
                await until(lambda: is_linked(self.stack), "the gateway connected", LINK_S)
                await asyncio.sleep(HOLD_S)
                waiting = await count_waiting(self.stack)
                if waiting < WORTH_IT:
                    return False
                await self._destroy(waiting)
        except (DatabaseAway, LogAway):
            return False
        for writer in central.writers:
            await self.killer.up(writer)
        return True

    async def _destroy(self, waiting: int) -> None:
        central = self.stack.central
        for victim in (*central.writers, *central.log_servers):
            await self.killer.kill(victim)
        await central.wipe()
        self.stack.journal.note("log_wiped", records=waiting)
        for server in central.log_servers:
            await self.killer.up(server)


async def is_linked(stack: Stack) -> bool:
    """Tell whether the gateway is connected to central."""
    answer = await ask(stack.gateway.ready_url)
    return answer is not None and bool(answer["link"]["connected"])


async def count_waiting(stack: Stack) -> int:
    """Count the records of readings in the log that the writer has not written."""
    kinds = (TopicKind.READINGS, TopicKind.BACKFILL)
    return sum([await _count(stack, topic(PROJECT, kind)) for kind in kinds])


async def _count(stack: Stack, name: str) -> int:
    log = stack.central.log
    log_id = await log.log_id(name)
    written = await load_position(stack.central.pool, PROJECT, name, PARTITION)
    offset = written.offset if written is not None and written.log_id == log_id else None
    count = 0
    while records := await log.read(name, PARTITION, offset, READ_BYTES, 0.0):
        count += len(records)
        offset = records[-1].offset + 1
    return count
