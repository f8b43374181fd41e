"""The names of the log's topics: one per project and kind."""

import re
from enum import StrEnum
from typing import Final

from central.messaging.log import Log
from shared.model import SLUG_PATTERN

PREFIX: Final = "spine"
_SLUG: Final = re.compile(SLUG_PATTERN)


class TopicKind(StrEnum):
    """What a topic carries."""

    READINGS = "readings"
    BACKFILL = "backfill"
    EVENTS = "events"
    ROLLUPS = "rollups"
    DEAD = "dead"


def topic(project: str, kind: str | TopicKind) -> str:
    """Name a project's topic: `spine.<project>.<kind>`.

    The dot after the slug keeps prefix rules of two projects apart. Raises ValueError for a slug or
    kind that cannot be.
    """
    if not _SLUG.match(project):
        msg = f"not a project slug: {project!r}"
        raise ValueError(msg)
    return f"{PREFIX}.{project}.{TopicKind(kind).value}"


async def create_topics(log: Log, project: str) -> None:
    """Make all topics of a project; those that exist are left as they are."""
    for kind in TopicKind:
        await log.create_topic(topic(project, kind))
