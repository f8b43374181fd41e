"""A writer without a lease: writes a project's topics as fast as it can, whoever else does.

`python -m tests.chaos.rival PROJECT`, with central's settings in the environment. Every half second
it tells what it did since: records it wrote, and how often another writer was faster.
"""

import asyncio
import json
import sys
from collections import Counter
from typing import Final

from central import settings
from central.connections import open_log, open_schemas
from central.messaging import LogAway, RecordCodec, RegistryAway, TopicKind, topic
from central.storage.database import DatabaseAway, TransactionClash, open_pool
from central.storage.positions import Fenced
from central.storage.topic_writer import TopicWriter

WAIT_S: Final = 0.2
TELL_S: Final = 0.5


async def fight(project: str) -> None:
    """Write until killed."""
    chosen = settings.read()
    assert chosen.dsn is not None, "SPINE_DSN names the database"
    done: Counter[str] = Counter()
    async with (
        open_pool(chosen.dsn.get_secret_value(), "spine-rival", size=4) as pool,
        open_log(chosen, pool) as log,
        open_schemas(chosen) as schemas,
        asyncio.TaskGroup() as group,
    ):
        for kind in (TopicKind.READINGS, TopicKind.BACKFILL):
            writer = TopicWriter(pool, log, RecordCodec(schemas), project, topic(project, kind))
            group.create_task(_write(writer, done))
        group.create_task(_tell(done))


async def _write(writer: TopicWriter, done: Counter[str]) -> None:
    while True:
        try:
            await writer.load()
            while True:
                done["records"] += await writer.step(WAIT_S)
        except Fenced:
            done["fenced"] += 1
        except (LogAway, DatabaseAway, RegistryAway, TransactionClash):
            await asyncio.sleep(WAIT_S)


async def _tell(done: Counter[str]) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        tally = {"event": "tally", "records": done["records"], "fenced": done["fenced"]}
        done.clear()
        print(json.dumps(tally), flush=True)  # noqa: T201 - its log is read by the checker


if __name__ == "__main__":
    asyncio.run(fight(sys.argv[1]))
