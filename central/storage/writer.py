"""The writers of all projects: each under a lease, so that of several processes one writes it."""

import asyncio
from typing import Final

from central.messaging.log import Log
from central.messaging.records import RecordCodec
from central.messaging.topics import TopicKind, topic
from central.storage.catalogue.projects import list_projects
from central.storage.database import Connection, Pool, our_errors
from central.storage.topic_writer import TopicWriter
from central.storage.writer_metrics import WriterMetrics
from shared import logs
from shared.backoff import Backoff
from shared.errors import SpineError

LOOK_S: Final = 2.0
LEASE_S: Final = 20.0
"""How long a process may hang until another takes its leases; each look renews them."""
_log = logs.get("writer")


async def run_writer(
    pool: Pool, log: Log, codec: RecordCodec, project: str, metrics: WriterMetrics | None = None
) -> None:
    """Write all topics of one project until cancelled; makes the topics where they are missing.

    Safe without a lease: a writer that another has overtaken cannot write.
    """
    async with asyncio.TaskGroup() as group:
        for kind in TopicKind:
            writer = TopicWriter(pool, log, codec, project, topic(project, kind), metrics)
            group.create_task(writer.run(), name=f"writer {project} {kind}")


async def run_writers(
    pool: Pool, log: Log, codec: RecordCodec, *, metrics: WriterMetrics | None = None
) -> None:
    """Write every project whose lease is free until cancelled; new projects within seconds.

    A lease is an advisory lock of one session: when this process dies, however, its leases are free
    at once, and after 20 s when it hangs. When the session is lost all writers stop and leases are
    taken anew. Until it notices, a process that hung writes nothing: it is fenced.
    """
    backoff = Backoff()
    while True:
        try:
            async with (
                pool.session("spine-leases", LEASE_S) as session,
                asyncio.TaskGroup() as group,
            ):
                writing: set[str] = set()
                while True:
                    for project in await _take_leases(pool, session, writing):
                        group.create_task(run_writer(pool, log, codec, project, metrics))
                    backoff.reset()
                    await asyncio.sleep(LOOK_S)
        except* SpineError as errors:
            if backoff.failures == 0:
                _log.warning("the writers wait", problem=str(_first(errors)))
        await asyncio.sleep(backoff.next_s())


async def _take_leases(pool: Pool, session: Connection, writing: set[str]) -> list[str]:
    taken: list[str] = []
    with our_errors():
        # Asked even when there is nothing to take: a lost session must be noticed.
        await session.fetchval("SELECT 1")
        for project in await list_projects(pool):
            if project.slug not in writing and await session.fetchval(
                "SELECT pg_try_advisory_lock(hashtext('spine.writer'), $1)", project.project_id
            ):
                writing.add(project.slug)
                taken.append(project.slug)
                _log.info("writing a project", project=project.slug)
    return taken


def _first(errors: BaseExceptionGroup[SpineError]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
