"""Chunks as wide as readings come densely: looked at now and then, for new chunks only."""

import asyncio
from datetime import timedelta
from typing import Final

from central.storage.catalogue.projects import list_projects
from central.storage.database import Pool, project_transaction
from shared import logs
from shared.errors import SpineError

TUNE_S: Final = 600.0
_log = logs.get("storage")


async def keep_chunks(pool: Pool) -> None:
    """Tune the chunks of every project until cancelled; what fails is tried again next time.

    Several processes may do so at once: each comes to the same width.
    """
    widths: dict[str, timedelta] = {}
    is_away = False
    while True:
        try:
            await _tune_all(pool, widths)
            is_away = False
        except SpineError as error:
            if not is_away:
                _log.warning("the width of chunks was not looked at", problem=str(error))
            is_away = True
        await asyncio.sleep(TUNE_S)


async def tune_chunks(pool: Pool, project: str) -> timedelta | None:
    """Choose the width of a project's new chunks by how densely readings come; None: no chunks."""
    async with project_transaction(pool, project) as connection:
        width: timedelta | None = await connection.fetchval("SELECT tune_chunks()")
    return width


async def _tune_all(pool: Pool, widths: dict[str, timedelta]) -> None:
    for project in await list_projects(pool):
        width = await tune_chunks(pool, project.slug)
        if width is None:
            continue
        if widths.get(project.slug, width) != width:
            _log.info("new chunks have another width", project=project.slug, width=str(width))
        widths[project.slug] = width
